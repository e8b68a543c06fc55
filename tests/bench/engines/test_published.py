from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig

from stale_bench.engines import published
from stale_bench.engines.published import Published, PublishedNetwork, vit_b_32
from stale_model.checkpoints.clip import empty_tower
from stale_runtime.bundle.bundle import Bundle
from tests.bench.helpers import make_job
from tests.tiny import CHANNELS, CLASSES


@pytest.fixture
def small_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text tower of one layer."""

    def small(channels: int, end_token: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=100, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            projection_dim=channels, bos_token_id=end_token, eos_token_id=end_token, pad_token_id=end_token,
        )  # fmt: skip

    monkeypatch.setattr(published, "vit_b_32", small)
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda _threads: None)  # possible once a process


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
def test_short_prompts_are_filled_up_as_the_original_does(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "PROMPT_TOKENS", 60)
    engine = Published(make_job(bundle, tmp_path))
    runs: list[torch.Tensor] = []
    engine.network.get_submodule("tower").register_forward_pre_hook(lambda _module, inputs: runs.append(inputs[0]))
    engine.steps(engine.features())["forward"]()
    assert runs[0].shape == (len(CLASSES), 60)
    assert (runs[0][:, -1] == engine.bundle.manifest.text_encoder.pad_token).all()


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


@pytest.mark.usefixtures("small_tower")
def test_multiplications_are_counted_as_by_hand(bundle: Path, tmp_path: Path) -> None:
    engine = Published(make_job(bundle, tmp_path))
    short, long = (Published(make_job(bundle, tmp_path, length=T)).facts(np.ones((9, CHANNELS))) for T in (16, 32))
    assert short.gmacs is not None
    assert long.gmacs is not None
    H, C = 4, CHANNELS
    of_a_snippet = 3 * C * H * C + H * C * C  # the snippet embedding's projections alone
    assert long.gmacs - short.gmacs > 16 * of_a_snippet / 1e9
    tower = next(m for m in engine.network.modules() if isinstance(m, torch.nn.Embedding))
    assert tower.num_embeddings == 100
