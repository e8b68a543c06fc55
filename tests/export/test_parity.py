from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stale_export import parity
from stale_export.embedded_prompts import EmbeddedPrompts, embed_prompts
from stale_export.parity import (
    CLEAR_MARGIN,
    LIMITS,
    Case,
    compare_localizer,
    compare_text_encoder,
    draw_features,
    localizer_cases,
)
from stale_model import Stale, TrainedStale
from stale_model.checkpoints.clip import text_encoder_spec
from stale_model.network.stale import foreground_snippets
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import ParityRecord
from stale_runtime.decoding.mask_interpolation import most_exact_rows
from stale_runtime.errors import BundleError, ParityError
from stale_runtime.inputs.prompts import Prompts
from tests import tiny
from tests.export.graphs import NODES

CASES = (Case(1, 16, 1), Case(3, 16, 3), Case(1, 33, 9), Case(2, 100, 2), Case(1, 300, 5))
OUTPUTS = ("cas_logits", "kept", "kept_mask", "action_masks")
DEPLOYED = [name for name, _ in tiny.make_network().named_parameters() if not name.startswith("foreground.")]
TOWER = [
    "clip.text_model.embeddings.token_embedding.weight",
    "clip.text_model.embeddings.position_embedding.weight",
    "clip.text_model.encoder.layers.0.self_attn.q_proj.weight",
    "clip.text_model.encoder.layers.0.mlp.fc2.bias",
    "clip.text_model.final_layer_norm.weight",
    "clip.text_projection.weight",
]
NAMES = ("polo", "x", "judo", "abc z", "y", "k" * 61)


def embeddings(K: int = 9) -> Tensor:
    return torch.randn(K, tiny.CHANNELS, generator=torch.Generator().manual_seed(5))


def compare(model: bytes, network: Stale, cases: Sequence[Case] = (Case(1, 16, 3),)) -> list[ParityRecord]:
    return list(compare_localizer(model, "localizer.onnx", network, embeddings(), cases, NODES))


def embed(trained: TrainedStale, names: Sequence[str]) -> EmbeddedPrompts:
    return embed_prompts(trained, Prompts.of(names), text_encoder_spec(trained.clip))


def compare_text(model: bytes, trained: TrainedStale, names: Sequence[str] = NAMES) -> list[ParityRecord]:
    return list(compare_text_encoder(model, "text.onnx", embed(trained, names)))


def shift(weight: Tensor, amount: float) -> None:
    with torch.no_grad():
        weight.view(-1)[1 % weight.numel()] += amount


def test_the_localizer_computes_what_the_network_does(trained: TrainedStale, localizer_model_bytes: bytes) -> None:
    records = compare(localizer_model_bytes, trained.network, CASES)
    expected = [(*case[:3], output) for case in CASES for output in OUTPUTS]
    assert [(record.batch, record.length, record.classes, record.output) for record in records] == expected
    for record in records:
        assert record.file == "localizer.onnx"
        assert record.limit == LIMITS[record.output]
        assert 0 <= record.deviation <= record.limit
    assert any(record.deviation > 0 for record in records)  # it was not compared with itself


@pytest.mark.parametrize("name", DEPLOYED)
def test_one_changed_weight_is_found(trained: TrainedStale, localizer_model_bytes: bytes, name: str) -> None:
    shift(trained.network.get_parameter(name), 0.05)
    with pytest.raises(
        ParityError, match=r"^localizer\.onnx: (cas_logits|kept(_mask)?|action_masks) deviates .*nothing"
    ):
        compare(localizer_model_bytes, trained.network)


def test_a_weight_that_only_training_reads_changes_nothing(trained: TrainedStale, localizer_model_bytes: bytes) -> None:
    before = compare(localizer_model_bytes, trained.network)
    for weight in trained.network.foreground.parameters():
        shift(weight, 10)
    assert compare(localizer_model_bytes, trained.network) == before


def test_nan_is_a_deviation(trained: TrainedStale, text_model_bytes: bytes) -> None:
    shift(trained.tower.get_parameter("clip.text_projection.weight"), float("nan"))
    with pytest.raises(ParityError, match="nan"):
        compare_text(text_model_bytes, trained)


def test_a_best_detection_that_differs_is_found(
    trained: TrainedStale, localizer_model_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for output in OUTPUTS:
        monkeypatch.setitem(parity.LIMITS, output, 1e9)
    assert compare(localizer_model_bytes, trained.network)
    with pytest.raises(ParityError, match="best detection differs"):
        compare(localizer_model_bytes, tiny.make_network(seed=1))


def test_the_text_encoder_computes_what_the_tower_does(trained: TrainedStale, text_model_bytes: bytes) -> None:
    records = compare_text(text_model_bytes, trained)
    sizes = [(2, 0, 2), (5, 0, 3), (62, 0, 1)]  # tokens with end token, 0, and how many names have that number
    expected = [(*size, output) for size in sizes for output in ("embeddings", "queries")]
    assert [(record.length, record.batch, record.classes, record.output) for record in records] == expected
    for record in records:
        assert (record.file, record.limit) == ("text.onnx", LIMITS[record.output])
        assert 0 <= record.deviation <= 1e-5
    assert any(record.deviation > 0 for record in records)  # it was not compared with itself


@pytest.mark.parametrize("name", TOWER)
def test_one_changed_weight_of_the_tower_is_found(trained: TrainedStale, text_model_bytes: bytes, name: str) -> None:
    shift(trained.tower.get_parameter(name), 0.05)
    with pytest.raises(ParityError, match=r"^text\.onnx: embeddings deviates"):
        compare_text(text_model_bytes, trained)


@pytest.mark.parametrize("name", ["cross_adaptation.query.weight", "cross_adaptation.key.weight"])
def test_queries_of_another_network_are_found(trained: TrainedStale, text_model_bytes: bytes, name: str) -> None:
    shift(trained.network.get_parameter(name), 0.05)
    with pytest.raises(ParityError, match=r"^text\.onnx: queries deviates"):
        compare_text(text_model_bytes, trained)


def test_prompts_in_another_order_are_found(trained: TrainedStale, text_model_bytes: bytes) -> None:
    prompts = embed(trained, ["polo", "judo"])
    swapped = replace(prompts, suffixes=prompts.suffixes[::-1])
    with pytest.raises(ParityError, match=r"^text\.onnx: embeddings deviates .*T=5, K=2"):
        list(compare_text_encoder(text_model_bytes, "text.onnx", swapped))


def test_what_is_no_graph_is_refused(trained: TrainedStale) -> None:
    with pytest.raises(BundleError, match=r"localizer\.onnx"):
        compare(b"no graph", trained.network)


@pytest.mark.parametrize("temporal_scale", [1, 8, 16, 100, 3000, layout.LONGEST])
@pytest.mark.parametrize("classes", [1, 3, 200])
@pytest.mark.parametrize("mask_nodes", [None, 6])
def test_cases_differ_in_every_size_and_stay_in_range(
    temporal_scale: int, classes: int, mask_nodes: int | None
) -> None:
    cases = localizer_cases(temporal_scale, classes, mask_nodes)
    assert max(temporal_scale, layout.SHORTEST) in {case.length for case in cases}
    assert {case.batch for case in cases} == {1, 2, 3}
    assert {1, classes} <= {case.classes for case in cases}
    if mask_nodes is not None and most_exact_rows(temporal_scale, mask_nodes) < layout.LONGEST:
        assert max(case.length for case in cases) > most_exact_rows(temporal_scale, mask_nodes)
    assert all(layout.SHORTEST <= case.length <= layout.LONGEST and 1 <= case.classes <= classes for case in cases)


@pytest.mark.parametrize(("B", "T"), [(1, 16), (3, 40), (2, 200)])
def test_drawn_features_keep_away_from_the_threshold(B: int, T: int) -> None:
    network = tiny.make_network()
    features = draw_features(network, B, T)
    assert features.shape == (B, T, tiny.CHANNELS)
    assert torch.equal(features, draw_features(network, B, T))
    assert len({video.sum().item() for video in features}) == B
    with torch.no_grad():
        masks = network.mask_localizer(network.snippet_embedding(features, features)).double()
    strength = masks.mean(dim=2)
    assert (strength - strength.mean(dim=1, keepdim=True)).abs().min() > CLEAR_MARGIN
    assert 0 < foreground_snippets(masks).double().mean() < 1


def test_a_network_whose_snippets_are_all_alike_is_refused() -> None:
    network = tiny.make_network()
    torch.nn.init.zeros_(network.mask_localizer.kernel)
    with pytest.raises(ParityError, match="T=16: every drawn video has a snippet at the masking threshold"):
        draw_features(network, 1, 16)
