import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from stale_export.float_attention import LONG
from stale_export.graph_builder import GraphBuilder, serialize
from stale_export.graph_parts import row_positions
from stale_export.localizer_graph import cross_queries, localizer_model, localizer_spec
from stale_export.parity import CLEAR_MARGIN, draw_features
from stale_model import Stale, StaleConfig, TrainedStale, read_original_checkpoint
from stale_model.network.stale import SCORE_FLOOR, cosine_logits, foreground_snippets, resample_rows
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.inputs.features import resample
from tests import tiny
from tests.export.graphs import (
    Array,
    assert_whole_and_anonymous,
    declared,
    draw_prompts,
    inputs_for,
    interface,
    run_localizer,
    run_network,
    weights,
)

C, M = tiny.CHANNELS, tiny.CONFIG.mask_channels
LOGITS_LIMIT, MASKS_LIMIT = 2e-4, 1e-5
LENGTHS = (layout.SHORTEST, 64, 100, 101, 200, 777)
CLASS_COUNTS = (1, 2, 50, 200, 1000)
BATCHES = (1, 3)


@dataclass(frozen=True)
class Deployed:
    """A network and the graph exported from it."""

    network: Stale
    session: onnxruntime.InferenceSession

    @classmethod
    def of(cls, network: Stale) -> "Deployed":
        return cls(network, open_session(serialize(localizer_model(network)), name="localizer", threads=1))

    def assert_same(self, features: Tensor, prompts: Tensor, length: int | None = None) -> None:
        """The graph computes what the plain network computes, of features resampled to the length."""
        got = run_localizer(self.session, self.network, features, prompts, length)
        expected = run_network(self.network, resampled(features, length or features.shape[1]), prompts)
        for ours, theirs, limit in zip(got, expected, (LOGITS_LIMIT, MASKS_LIMIT), strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit)


def make_network(seed: int = 0, **changes: int) -> Stale:
    """A network trained at 100 snippets, with no weight that starts at zero or one.

    Drawn so that single precision is enough: with attention that is not all on one snippet, and no snippet that the
    floor leaves next to nothing of. Elsewhere both graph and network lie further from double precision.
    """
    network = Stale(replace(tiny.CONFIG, **{"temporal_scale": 100, **changes})).eval()
    tiny.randomize(network, seed)
    with torch.no_grad():
        for block in (network.snippet_embedding, network.cross_adaptation):
            block.query.weight.mul_(0.3)
        network.snippet_embedding.norm.bias.abs_()
    return network


def resampled(features: Tensor, length: int) -> Tensor:
    """Features (B, S, C) as the runtime resamples those of more snippets: (B, T, C)."""
    return torch.from_numpy(np.stack([resample(video, length) for video in features.numpy()]))


def draw_short(network: Stale, B: int, S: int, T: int) -> Tensor:
    """Features (B, S, C) of which, resampled to T, no snippet is near the masking threshold."""
    videos: list[Tensor] = []
    C = network.config.channels
    for seed in range(100 * B):
        video = 10 * nn.functional.normalize(torch.randn(1, S, C, generator=torch.Generator().manual_seed(seed)), dim=2)
        _, masks = run_network(network, resampled(video, T), draw_prompts(1, C))
        strength = masks[0].mean(axis=1, dtype=np.float64)
        if np.abs(strength - strength.mean()).min() > CLEAR_MARGIN:
            videos.append(video)
        if len(videos) == B:
            return torch.cat(videos)
    raise AssertionError("every video has a snippet at the masking threshold")


def kept(network: Stale, features: Tensor) -> list[int]:
    """How many snippets of each video the representation masking keeps."""
    with torch.no_grad():
        masks = network.mask_localizer(network.snippet_embedding(features, features))
        return [int(count) for count in foreground_snippets(masks).sum(dim=(1, 2))]


@pytest.fixture(scope="module")
def deployed() -> Deployed:
    return Deployed.of(make_network())


@pytest.fixture(scope="module")
def draw(deployed: Deployed) -> Callable[[int, int], Tensor]:
    """Features (B, T, C) for the deployed network, drawn once for all class counts."""
    return cache(lambda B, T: draw_features(deployed.network, B, T))


@pytest.fixture(scope="module")
def published(reference: Path) -> Deployed:
    """The reference checkpoint, of the published sizes."""
    return Deployed.of(read_original_checkpoint(reference / "best.pth", str(reference / "clip")).network)


@pytest.fixture(scope="module")
def published_prompts(reference: Path) -> Tensor:
    return torch.from_numpy(np.load(reference / "golden" / "text_all200.npz")["prompt_embeddings"])


@pytest.mark.parametrize("K", CLASS_COUNTS)
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("B", BATCHES)
def test_the_graph_is_the_network(
    deployed: Deployed, draw: Callable[[int, int], Tensor], B: int, T: int, K: int
) -> None:
    deployed.assert_same(draw(B, T), draw_prompts(K, C))


@pytest.mark.parametrize("T", [LONG, LONG + 1, LONG + 256])
@pytest.mark.parametrize("B", BATCHES)
def test_attention_in_tiles_is_the_networks(deployed: Deployed, B: int, T: int) -> None:
    deployed.assert_same(draw_features(deployed.network, B, T), draw_prompts(2, C))


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("T", [40, LONG + 3])
def test_any_number_of_heads_is_deployed(heads: int, T: int) -> None:
    deployed = Deployed.of(make_network(heads=heads))
    deployed.assert_same(draw_features(deployed.network, 2, T), draw_prompts(3, C))


@pytest.mark.parametrize("S", [1, 2, 15, 37, 63])
@pytest.mark.parametrize("T", [64, 100, 101, 200])
@pytest.mark.parametrize("B", BATCHES)
def test_a_video_of_fewer_snippets_is_resampled_inside(deployed: Deployed, B: int, T: int, S: int) -> None:
    deployed.assert_same(draw_short(deployed.network, B, S, T), draw_prompts(5, C), T)


@pytest.mark.parametrize(("S", "T"), [(15, 16), (99, 100), (100, 101), (199, 200), (40, LONG), (40, LONG + 1)])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_resampling_inside_is_the_networks_at_the_edges(heads: int, S: int, T: int) -> None:
    deployed = Deployed.of(make_network(heads=heads))
    deployed.assert_same(draw_short(deployed.network, 2, S, T), draw_prompts(2, C), T)


def test_the_length_counts_where_there_are_fewer_snippets(deployed: Deployed) -> None:
    features, prompts = draw_short(deployed.network, 1, 37, 64), draw_prompts(2, C)
    for T in (37, 38, 64):
        cas_logits, masks = run_localizer(deployed.session, deployed.network, features, prompts, T)
        assert cas_logits.shape == (1, 3, T)
        assert masks.shape == (1, T, T)


@pytest.mark.reference
@pytest.mark.parametrize(("B", "T", "K"), [(1, 100, 200), (3, 64, 7), (2, 101, 1), (1, 200, 50)])
def test_the_published_network_is_deployed(
    published: Deployed, published_prompts: Tensor, B: int, T: int, K: int
) -> None:
    published.assert_same(draw_features(published.network, B, T), published_prompts[:K])


@pytest.mark.reference
@pytest.mark.parametrize(("S", "T"), [(1, 100), (30, 100), (77, 100), (99, 100), (150, 200), (400, 1200)])
def test_a_short_video_of_the_published_network(published: Deployed, published_prompts: Tensor, S: int, T: int) -> None:
    published.assert_same(draw_short(published.network, 1, S, T), published_prompts[:50], T)


@pytest.mark.reference
def test_a_long_video_of_the_published_network(published: Deployed, published_prompts: Tensor) -> None:
    features = draw_features(published.network, 1, LONG + 476)
    assert 1 < kept(published.network, features)[0] < LONG + 476
    published.assert_same(features, published_prompts)


@pytest.mark.parametrize("name", [name for name, _ in make_network().named_parameters() if "foreground" not in name])
def test_one_changed_weight_makes_another_graph(draw: Callable[[int, int], Tensor], name: str) -> None:
    network = make_network()
    changed = copy.deepcopy(network)
    with torch.no_grad():
        changed.get_parameter(name).view(-1)[3] += 0.2
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        Deployed(network, Deployed.of(changed).session).assert_same(draw(1, 64), draw_prompts(3, C))


def test_videos_of_a_batch_may_keep_different_numbers_of_snippets(
    deployed: Deployed, draw: Callable[[int, int], Tensor]
) -> None:
    features, prompts = draw(3, 100), draw_prompts(5, C)
    counts = kept(deployed.network, features)
    assert len(set(counts)) > 1
    deployed.assert_same(features, prompts)
    together = run_localizer(deployed.session, deployed.network, features, prompts)
    for b in range(3):
        alone = run_localizer(deployed.session, deployed.network, features[b : b + 1], prompts)
        np.testing.assert_allclose(together[0][b], alone[0][0], rtol=0, atol=LOGITS_LIMIT)
        np.testing.assert_allclose(together[1][b], alone[1][0], rtol=0, atol=MASKS_LIMIT)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 0), (1,), (0,)])
def test_a_video_may_keep_every_snippet(order: tuple[int, ...]) -> None:
    network, prompts = make_network(), draw_prompts(5, C)
    with torch.no_grad():  # the first channel alone decides, and where it is negative every mask is 0.5 throughout
        network.snippet_embedding.output.weight.zero_()
        network.mask_localizer.hidden.weight.zero_()
        network.mask_localizer.hidden.weight[:, 0] = 1
        network.get_parameter("mask_localizer.hidden.bias").zero_()
        network.snippet_embedding.norm.weight.abs_()
        network.snippet_embedding.norm.bias.zero_()
    partly = draw_features(network, 1, 64)
    wholly = partly.clone()
    wholly[:, :, 0] = -30
    videos = torch.cat([partly, wholly])[list(order)]
    counts = kept(network, videos)
    assert [count == 64 for count in counts] == [bool(b) for b in order]
    Deployed.of(network).assert_same(videos, prompts)


@pytest.mark.parametrize("T", [16, 64, 100, 101])
@pytest.mark.parametrize("B", BATCHES)
def test_masks_may_all_be_equal(B: int, T: int) -> None:
    network = make_network()
    torch.nn.init.zeros_(network.mask_localizer.kernel)
    features = torch.randn(B, T, C, generator=torch.Generator().manual_seed(T))
    assert kept(network, features) == [T] * B
    Deployed.of(network).assert_same(features, draw_prompts(5, C))


def test_snippets_may_all_be_equal(deployed: Deployed, draw: Callable[[int, int], Tensor]) -> None:
    features = draw(1, 64)[:, :1].expand(2, 64, C).contiguous()
    counts = kept(deployed.network, features)
    assert 0 < counts[0] < 64  # at the ends the convolution sees the padding, and the kernel has a row a snippet
    deployed.assert_same(features, draw_prompts(5, C))


def with_snippets_kept(network: Stale, features: Tensor, prompts: Tensor, keep: Tensor) -> tuple[Array, Array]:
    """The logits (B, K+1, T) of graph and network if ``keep`` (B, T), instead of the masks, decides what is kept."""
    model = localizer_model(network)
    (comparison,) = (node for node in model.graph.node if node.op_type == "GreaterOrEqual")
    decision = onnx.helper.make_tensor_value_info(comparison.output[0], onnx.TensorProto.BOOL, ["B", "T"])
    model.graph.input.append(decision)
    model.graph.node.remove(comparison)
    session = onnxruntime.InferenceSession(serialize(model))
    inputs = {**inputs_for(network, features, prompts), decision.name: keep.numpy()}
    (got,) = session.run(["cas_logits"], inputs)
    with torch.no_grad():
        snippets = network.snippet_embedding(features, features) * keep[:, :, None]
        adapted = network.cross_adaptation(network.with_background(prompts)[None], snippets)
        expected = cosine_logits(adapted, snippets.clamp(min=SCORE_FLOOR))
    return got, expected.numpy()


@pytest.mark.parametrize(
    "counts", [(0,), (1,), (19,), (20,), (0, 0), (0, 20), (20, 0), (1, 7, 20), (20, 20), (3, 0, 3)]
)
def test_any_number_of_snippets_may_be_kept(counts: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(counts), 20, C, generator=generator)
    keep = torch.zeros(len(counts), 20, dtype=torch.bool)
    for row, count in zip(keep, counts, strict=True):
        row[torch.randperm(20, generator=generator)[:count]] = True
    got, expected = with_snippets_kept(make_network(), features, draw_prompts(5, C), keep)
    np.testing.assert_allclose(got, expected, rtol=0, atol=LOGITS_LIMIT)


@pytest.mark.parametrize(("T0", "T"), [(100, 333), (100, 4096), (16, 777), (777, 100), (4096, 4095), (333, 333)])
def test_positions_are_exact_and_shares_the_networks(T0: int, T: int) -> None:
    graph = GraphBuilder()
    lower, share = row_positions(graph, graph.integers(T0), "length")
    graph.name("lower", graph.op("Identity", lower))
    graph.name("share", graph.op("Identity", share))
    inputs = (TensorSpec(name="length", dtype="int64", shape=()),)
    outputs = (("lower", "int64"), ("share", "float32"))
    spec = GraphSpec(inputs=inputs, outputs=tuple(TensorSpec(name=n, dtype=d, shape=("T",)) for n, d in outputs))
    session = open_session(serialize(graph.model(spec)), name="positions", threads=1)
    below, weight = session.run(["lower", "share"], {"length": np.array(T)})
    exact = [min(max(Fraction((2 * t + 1) * T0 - T, 2 * T), Fraction(0)), Fraction(T0 - 1)) for t in range(T)]
    assert below.tolist() == [int(position) for position in exact]
    off = [abs(float(Fraction(float(w)) - (p % 1))) for w, p in zip(weight, exact, strict=True)]
    assert max(off) <= T0 * 2.0**-22
    rows = torch.randn(T0, 3, generator=torch.Generator().manual_seed(0))
    after = np.minimum(below + 1, T0 - 1)
    got = rows.numpy()[below] * (1 - weight)[:, None] + rows.numpy()[after] * weight[:, None]
    same = (got == resample_rows(rows, T).numpy()).all(axis=1)
    assert same.mean() > 0.99  # all but positions that float32 rounds to the other side of a row


def test_no_runtime_can_round_what_decides_positions_and_order() -> None:
    """Whatever is an index is computed from integers alone, or from the decision which snippets to keep."""
    graph = onnx.shape_inference.infer_shapes(localizer_model(make_network())).graph
    values = (*graph.value_info, *graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    (sort,) = (node for node in graph.node if node.op_type == "TopK")
    assert kinds[sort.input[0]] == onnx.TensorProto.INT64
    casts = [node for node in graph.node if node.op_type == "Cast" and kinds[node.output[0]] == onnx.TensorProto.INT64]
    assert casts
    assert {kinds[node.input[0]] for node in casts} == {onnx.TensorProto.BOOL}


def test_queries_are_the_prompts_side_of_every_heads_scores() -> None:
    network = make_network(heads=3)
    block, prompts = network.cross_adaptation, draw_prompts(5, C)
    memory = torch.randn(7, C, generator=torch.Generator().manual_seed(1))
    queries = cross_queries(network, prompts)
    assert (queries.shape, queries.dtype) == ((5, 3 * C), torch.float32)
    with torch.no_grad():
        q, k = block.query(prompts).unflatten(1, (3, C)), block.key(memory).unflatten(1, (3, C))
        expected = torch.einsum("khc,thc->kht", q, k) / C**0.5
    got = queries.unflatten(1, (3, C)) @ memory.T
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=0, atol=1e-4)


def test_the_queries_are_what_the_graph_adapts_with(deployed: Deployed, draw: Callable[[int, int], Tensor]) -> None:
    features, prompts = draw(1, 64), draw_prompts(2, C)
    inputs = inputs_for(deployed.network, features, prompts)
    queries = inputs["queries"]
    first, second = (
        deployed.session.run(["cas_logits"], {**inputs, "queries": each})[0][0] for each in (queries, queries[::-1])
    )
    assert np.abs(first[:2] - second[:2]).max() > 0.1
    np.testing.assert_array_equal(first[2], second[2])  # the background has a query of its own


def test_the_interface_is_as_declared(localizer_model_bytes: bytes, trained: TrainedStale) -> None:
    H = tiny.CONFIG.heads
    assert interface(localizer_model_bytes) == declared(localizer_spec(trained.network))
    assert interface(localizer_model_bytes) == (
        {
            "features": ("float32", ("B", "S", C)),
            "length": ("int64", ()),
            "prompts": ("float32", ("K", C)),
            "queries": ("float32", ("K", H * C)),
            "mask_rows": ("float32", ("P", tiny.LENGTH)),
            "mask_lift": ("float32", ("T", "P")),
        },
        {
            "cas_logits": ("float32", ("B", "K+1", "T")),
            "kept": ("float32", ("B", "T")),
            "kept_mask": ("float32", ("B", "T")),
            "mask_logits": ("float32", ("B", tiny.LENGTH, "T")),
        },
    )


def test_a_graph_is_whole_and_says_nothing_of_the_machine(localizer_model_bytes: bytes) -> None:
    assert_whole_and_anonymous(localizer_model_bytes)


def test_the_same_network_gives_the_same_bytes(trained: TrainedStale, localizer_model_bytes: bytes) -> None:
    assert serialize(localizer_model(trained.network)) == localizer_model_bytes
    assert serialize(localizer_model(tiny.make_network(seed=1))) != localizer_model_bytes


@pytest.mark.parametrize("config", [tiny.CONFIG, replace(tiny.CONFIG, heads=3, temporal_scale=100)])
def test_no_weight_is_exported_that_detection_does_not_read(config: StaleConfig) -> None:
    H, T0 = config.heads, config.temporal_scale
    embedding = 2 * H * C * C + 3 * C  # two folded matrices a head, bias, LayerNorm
    adaptation = H * C * C + 3 * C  # whose queries come in
    masks = 3 * C * M + M + T0 * M
    background = C + H * C
    found = weights(serialize(localizer_model(tiny.make_network(config=config))))
    assert 0 <= found - embedding - adaptation - masks - background < 10  # some constants


def test_the_background_embedding_is_inside(trained: TrainedStale, localizer_model_bytes: bytes) -> None:
    assert trained.network.background_embedding.detach().numpy().tobytes() in localizer_model_bytes
