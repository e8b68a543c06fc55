from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from stale_bench.engines.published import Published, PublishedNetwork, vit_b_32
from stale_bench.engines.torch_macs import count_torch
from stale_model.checkpoints.clip import empty_tower, read_clip_parts, text_encoder_spec
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.text_encoder import Tokenizer
from tests.bench.engines.macs_by_hand import macs_by_hand
from tests.bench.helpers import make_job
from tests.tiny import CHANNELS, CLASSES


def full_size_network(length: int) -> PublishedNetwork:
    """The network for CLIP's 512-wide features."""
    manifest = SimpleNamespace(channels=512, text_encoder=SimpleNamespace(pad_token=49407))
    return PublishedNetwork(cast(Bundle, SimpleNamespace(manifest=manifest)), length)


def test_the_tower_has_the_size_of_vit_b_32_s() -> None:
    parameters = sum(parameter.numel() for parameter in empty_tower(vit_b_32(512, 49407)).parameters())
    assert parameters == 63_428_096  # CLIP ViT-B/32: 63,165,952 in the transformer and 512 x 512 of the projection


@pytest.mark.usefixtures("small_tower")
def test_the_tower_runs_in_every_forward_pass(bundle: Path, tmp_path: Path) -> None:
    engine = Published(make_job(bundle, tmp_path))
    runs: list[tuple[int, ...]] = []
    tower = engine.network.get_submodule("tower")
    tower.register_forward_pre_hook(lambda _module, inputs: runs.append(tuple(inputs[0].shape)))
    forward = engine.steps(engine.features())["forward"]
    forward()
    forward()
    assert len(runs) == 2
    longest = max(len("avideoofaction" + name.replace(" ", "")) for name in CLASSES)  # tokens are letters
    assert runs[0] == (len(CLASSES), 2 + longest)


@pytest.mark.usefixtures("small_tower")
@pytest.mark.parametrize(("classes", "longest"), [(("polo", "tai chi"), "tai chi"), (("polo", "ski"), "polo")])
def test_prompts_are_padded_to_the_longest_of_the_list_with_the_end_token(
    bundle: Path, tmp_path: Path, classes: tuple[str, ...], longest: str
) -> None:
    engine = Published(make_job(bundle, tmp_path, classes=classes))
    runs: list[torch.Tensor] = []
    engine.network.get_submodule("tower").register_forward_pre_hook(lambda _module, inputs: runs.append(inputs[0]))
    engine.steps(engine.features())["forward"]()
    lengths = [2 + len("avideoofaction" + name.replace(" ", "")) for name in classes]  # tokens are letters
    assert runs[0].shape == (len(classes), lengths[classes.index(longest)])
    end = engine.bundle.manifest.text_encoder.pad_token
    for row, length in zip(runs[0].tolist(), lengths, strict=True):
        assert row.index(end) == length - 1
        assert set(row[length:]) <= {end}


@pytest.mark.reference
@pytest.mark.parametrize(
    ("names", "shape", "gmacs"), [("classes.txt", (200, 12), 92.595), ("classes_unseen.txt", (50, 11), 22.057)]
)
def test_activitynet_s_prompts_have_the_tokens_of_the_original(
    reference: Path, names: str, shape: tuple[int, int], gmacs: float
) -> None:
    """The original's tokenizer pads the 200 prompts to 12 tokens, and those of the 50 unseen classes to 11."""
    clip = read_clip_parts(str(reference / "clip"))
    spec = text_encoder_spec(clip)
    ids = Tokenizer(clip.tokenizer_json, spec)(spec.fill((reference / names).read_text().splitlines()))
    assert ids.shape == shape
    macs = count_torch(lambda: full_size_network(100), (1, 100, 512), ids=ids.shape)
    assert macs.total / 1e9 == pytest.approx(gmacs, abs=5e-4)


@pytest.mark.parametrize(("K", "L", "T"), [(200, 12, 100), (50, 11, 100), (200, 12, 3000)])
def test_multiplications_are_those_of_a_formula(K: int, L: int, T: int) -> None:
    macs = count_torch(lambda: full_size_network(T), (1, T, 512), ids=(K, L))
    assert macs.total == macs_by_hand(K, L, T)


@pytest.mark.usefixtures("small_tower")
def test_the_engine_counts_what_it_runs(bundle: Path, tmp_path: Path) -> None:
    engine = Published(make_job(bundle, tmp_path, length=24))
    longest = max(len("avideoofaction" + name.replace(" ", "")) for name in CLASSES)
    by_hand = macs_by_hand(len(CLASSES), 2 + longest, 24, C=CHANNELS, width=8, inner=16, layers=1)
    assert engine.facts(engine.features()).gmacs == by_hand / 1e9


@pytest.mark.usefixtures("small_tower")
def test_all_outputs_are_computed_at_the_length(bundle: Path) -> None:
    network = PublishedNetwork(Bundle(bundle), 24).eval()
    ids = torch.zeros(3, 5, dtype=torch.int64)
    with torch.no_grad():
        outputs = network(torch.randn(1, 24, CHANNELS), ids)
    assert outputs.cas_logits.shape == (1, 4, 24)
    assert outputs.action_masks.shape == (1, 24, 24)
    assert outputs.foreground_logits.shape == (1, 24)
    assert outputs.video_logits.shape[:2] == (1, 3)


@pytest.mark.usefixtures("small_tower")
def test_the_seed_draws_the_weights(bundle: Path, tmp_path: Path) -> None:
    first, same, other = (
        next(Published(make_job(bundle, tmp_path, seed=seed)).network.parameters()) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.usefixtures("small_tower")
def test_the_quantized_one_has_int8_layers_and_counts_the_same(bundle: Path, tmp_path: Path) -> None:
    plain, quantized = (Published(make_job(bundle, tmp_path, precision=kind)) for kind in ("fp32", "int8"))
    features = plain.features()
    quantized.steps(features)["forward"]()
    before, after = plain.facts(features), quantized.facts(features)
    assert before.gmacs == after.gmacs
    assert before.int8_share == 0
    assert after.int8_share is not None
    assert 0.1 < after.int8_share < 1
    assert before.file_mb is not None
    assert after.file_mb is not None
    assert "DynamicQuantizedLinear" in repr(quantized.network)
    assert "DynamicQuantizedLinear" not in repr(plain.network)
