from pathlib import Path

import pytest
import torch

from stale_model import Stale, StaleConfig, TextTower
from stale_model.checkpoints.upstream_names import TEXT_TOWER, UNUSED, our_name
from tests import tiny

NAMES = {
    "bg_embeddings": "background_embedding",
    "embedding.w_qs.weight": "snippet_embedding.query.weight",
    "embedding.w_ks.weight": "snippet_embedding.key.weight",
    "embedding.w_vs.weight": "snippet_embedding.value.weight",
    "embedding.fc.bias": "snippet_embedding.output.bias",
    "embedding.layer_norm.weight": "snippet_embedding.norm.weight",
    "cross_att.w_qs.weight": "cross_adaptation.query.weight",
    "cross_att.w_ks.weight": "cross_adaptation.key.weight",
    "cross_att.w_vs.weight": "cross_adaptation.value.weight",
    "cross_att.fc.weight": "cross_adaptation.output.weight",
    "cross_att.layer_norm.bias": "cross_adaptation.norm.bias",
    "localizer_mask.0.weight": "mask_localizer.hidden.weight",
    "localizer_mask.0.bias": "mask_localizer.hidden.bias",
    "localizer_mask.2.weight": "mask_localizer.kernel",
    "masktrans.query_embed.weight": "foreground.query",
    "masktrans.input_proj.bias": "foreground.input.bias",
    "masktrans.mask_embed.layers.0.weight": "foreground.mask_embedding.0.weight",
    "masktrans.mask_embed.layers.1.weight": "foreground.mask_embedding.2.weight",
    "masktrans.mask_embed.layers.2.bias": "foreground.mask_embedding.4.bias",
    "masktrans.transformer.encoder.norm.weight": "foreground.encoder_norm.weight",
    "masktrans.transformer.decoder.norm.bias": "foreground.decoder_norm.bias",
    "masktrans.transformer.encoder.layers.0.self_attn.in_proj_weight": "foreground.encoder.0.attention.in_proj_weight",
    "masktrans.transformer.encoder.layers.1.norm1.weight": "foreground.encoder.1.attention_norm.weight",
    "masktrans.transformer.encoder.layers.1.norm2.weight": "foreground.encoder.1.feedforward_norm.weight",
    "masktrans.transformer.encoder.layers.1.linear1.bias": "foreground.encoder.1.feedforward.inner.bias",
    "masktrans.transformer.encoder.layers.1.linear2.bias": "foreground.encoder.1.feedforward.outer.bias",
    "masktrans.transformer.decoder.layers.0.self_attn.out_proj.bias": (
        "foreground.decoder.0.self_attention.out_proj.bias"
    ),
    "masktrans.transformer.decoder.layers.1.multihead_attn.in_proj_bias": (
        "foreground.decoder.1.cross_attention.in_proj_bias"
    ),
    "masktrans.transformer.decoder.layers.1.norm1.weight": "foreground.decoder.1.self_attention_norm.weight",
    "masktrans.transformer.decoder.layers.1.norm2.weight": "foreground.decoder.1.cross_attention_norm.weight",
    "masktrans.transformer.decoder.layers.1.norm3.weight": "foreground.decoder.1.feedforward_norm.weight",
}


@pytest.fixture(scope="module")
def parameters() -> set[str]:
    with torch.device("meta"):
        return set(Stale(StaleConfig()).state_dict())


@pytest.mark.parametrize("theirs", NAMES)
def test_a_name_of_the_original(theirs: str, parameters: set[str]) -> None:
    assert our_name(theirs) == NAMES[theirs]
    assert NAMES[theirs] in parameters
    assert UNUSED.fullmatch(theirs) is None
    assert TEXT_TOWER.fullmatch(theirs) is None


@pytest.mark.parametrize("layers", [1, 2, 11])
def test_every_parameter_has_one_name_in_the_original(layers: int, clip_folder: Path) -> None:
    network = tiny.make_network(config=StaleConfig(channels=8, heads=1, mask_channels=2, foreground_layers=layers))
    state = tiny.upstream_state(network, tiny.make_tower(clip_folder), unused=False)
    ours = [our_name(name) for name in state if not TEXT_TOWER.fullmatch(name)]
    assert len(ours) == len(set(ours))
    assert set(ours) == network.state_dict().keys()


@pytest.mark.parametrize(
    "name",
    [
        "proj.0.weight",
        "contexts",
        "classifier.0.bias",
        "bn1.num_batches_tracked",
        "reduce_mask.0.weight",
        "mask_MLP.0.bias",
        "txt_model.logit_scale",
        "txt_model.vision_model.embeddings.class_embedding",
        "txt_model.visual_projection.weight",
        "txt_model.text_model.embeddings.position_ids",
    ],
)
def test_what_the_original_never_uses_is_recognised(name: str) -> None:
    assert UNUSED.fullmatch(name)
    assert our_name(name) is None


@pytest.mark.parametrize("name", ["project.weight", "contexts2", "bn10.weight", "txt_model.logit_scales", "x.proj.0"])
def test_what_only_looks_unused_is_not(name: str) -> None:
    assert UNUSED.fullmatch(name) is None
    assert our_name(name) is None


def test_the_towers_parameters_are_its_own(clip_folder: Path) -> None:
    tower: TextTower = tiny.make_tower(clip_folder)
    for name in tower.state_dict():
        match = TEXT_TOWER.fullmatch(f"txt_model.{name.removeprefix('clip.')}")
        assert match is not None
        assert f"clip.{match[1]}" == name
        assert our_name(match[0]) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "embedding",
        "embedding.w_os.weight",
        "cross_attention.fc.weight",
        "localizer_mask.1.weight",
        "localizer_mask.2.bias",
        "masktrans.mask_embed.layers.3.weight",
        "masktrans.transformer.encoder.layers.0.norm3.weight",
        "masktrans.transformer.encoder.layers.0.multihead_attn.in_proj_bias",
        "masktrans.transformer.encoder.layers.x.norm1.weight",
        "module.bg_embeddings",
        "snippet_embedding.query.weight",
    ],
)
def test_an_unknown_name_has_no_translation(name: str) -> None:
    assert our_name(name) is None


@pytest.mark.reference
def test_every_tensor_of_the_reference_checkpoint_is_known(reference: Path, parameters: set[str]) -> None:
    state = torch.load(reference / "best.pth", weights_only=True, mmap=True)["state_dict"]
    names = [name.removeprefix("module.") for name in state]
    used = [name for name in names if not UNUSED.fullmatch(name) and not TEXT_TOWER.fullmatch(name)]
    assert {our_name(name) for name in used} == parameters
    assert any(UNUSED.fullmatch(name) for name in names)
