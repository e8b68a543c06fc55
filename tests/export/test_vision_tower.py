import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from stale_export.vision_tower import read_vision_tower
from stale_runtime.errors import CheckpointError
from stale_runtime.inputs.recipe import CLIP_DEVIATION, CLIP_MEAN
from tests import tiny

OPENAI = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}
"""preprocessor_config.json of openai/clip-vit-base-patch32."""


@pytest.fixture
def folder(vision_folder: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(vision_folder, tmp_path / "tower"))


def change(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


def test_the_tower_has_the_folder_s_weights(vision_folder: Path) -> None:
    found = read_vision_tower(str(vision_folder))
    wanted = tiny.make_vision_tower().state_dict()
    assert found.tower.state_dict().keys() == wanted.keys()
    assert all(torch.equal(weights, wanted[name]) for name, weights in found.tower.state_dict().items())
    assert not found.tower.training


def test_images_are_prepared_as_openai_does_unless_the_folder_says_otherwise(vision_folder: Path) -> None:
    recipe = read_vision_tower(str(vision_folder)).recipe
    assert (recipe.image_size, recipe.interpolation, recipe.resize) == (tiny.IMAGE_SIZE, "bicubic", "crop")
    assert (recipe.mean, recipe.deviation, recipe.channel_order) == (CLIP_MEAN, CLIP_DEVIATION, "rgb")
    assert recipe.tower == vision_folder.name
    assert recipe.missing == ("snippet_s", "frames", "normalised")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({**OPENAI, "size": 32, "crop_size": 32}, ("bicubic", "crop")),
        (
            {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "resample": 2},
            ("bilinear", "crop"),
        ),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": False}, ("bicubic", "squash")),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": True, "crop_size": 32}, ("bicubic", "squash")),
    ],
)
def test_the_ways_in_which_hugging_face_describes_images(
    folder: Path, content: dict[str, Any], says: tuple[str, str]
) -> None:
    change(
        folder,
        "preprocessor_config.json",
        image_mean=[0.5, 0.25, 1],
        image_std=[0.5, 1, 2],
        **{key: value for key, value in content.items() if not key.startswith("image_")},
    )
    recipe = read_vision_tower(str(folder)).recipe
    assert (recipe.interpolation, recipe.resize) == says
    assert (recipe.mean, recipe.deviation) == ((0.5, 0.25, 1.0), (0.5, 1.0, 2.0))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (OPENAI, "resized to 224 and cropped to 224, expected 32"),
        ({"size": {"shortest_edge": 36}, "crop_size": 32}, "resized to 36"),
        ({"size": {"height": 32, "width": 48}}, "expected a square"),
        ({"size": {"shortest_edge": 32}, "do_center_crop": False}, "neither squashed"),
        ({"resample": 0}, "resample is 0"),
        ({"do_resize": False}, "do_resize is False"),
        ({"rescale_factor": 1}, "rescale_factor is 1"),
        ({"image_mean": [0.5, 0.5]}, "mean"),
        ({"image_std": [0, 1, 1]}, "deviation"),
        ({"image_std": "x"}, "preprocessor_config"),
        ({"image_mean": [10**400, 0.5, 0.5]}, "preprocessor_config"),
        ({"size": []}, "preprocessor_config"),
    ],
)
def test_images_that_a_recipe_cannot_describe_are_refused(folder: Path, content: dict[str, Any], match: str) -> None:
    change(folder, "preprocessor_config.json", **content)
    with pytest.raises(CheckpointError, match=match) as caught:
        read_vision_tower(str(folder))
    assert str(caught.value).startswith(f"--vision {folder}")
    assert "\n" not in str(caught.value)


def test_the_tower_of_a_whole_clip_is_found(tmp_path: Path) -> None:
    vision = tiny.make_vision_tower().config.to_dict()
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    del vision["projection_dim"]
    clip = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=tiny.CHANNELS))
    clip.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    del content["vision_config"]["projection_dim"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    found = read_vision_tower(str(tmp_path)).tower
    assert torch.equal(found.visual_projection.weight, clip.visual_projection.weight)
    assert found.config.projection_dim == tiny.CHANNELS


def test_the_hash_is_of_the_weights(folder: Path, vision_folder: Path) -> None:
    before = read_vision_tower(str(vision_folder)).recipe.tower_sha256
    assert read_vision_tower(str(folder)).recipe.tower_sha256 == before
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert read_vision_tower(str(folder)).recipe.tower_sha256 != before


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "siglip"}, "does not describe a CLIP"),
        ({"model_type": "clip"}, "no vision_config"),
        ({"hidden_size": 2**30}, "hidden_size is 1073741824"),
        ({"num_hidden_layers": 65}, "num_hidden_layers is 65"),
        ({"num_hidden_layers": 1.5}, "num_hidden_layers is 1.5"),
        ({"hidden_size": 2**14, "intermediate_size": 2**16, "num_hidden_layers": 64}, "bytes of weights"),
        ({"num_attention_heads": 3}, "number of attention heads"),
        ({"patch_size": 64}, "are larger than images"),
        ({"hidden_act": "relu"}, "hidden_act is relu, expected quick_gelu or gelu"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps"),
        ({"num_channels": 1}, "num_channels is 1"),
    ],
)
def test_a_configuration_that_is_no_tower_is_refused(folder: Path, changes: dict[str, Any], match: str) -> None:
    change(folder, "config.json", **changes)
    with pytest.raises(CheckpointError, match=match) as caught:
        read_vision_tower(str(folder))
    assert "\n" not in str(caught.value)


def test_nothing_else_is_taken_from_a_configuration(folder: Path) -> None:
    change(folder, "config.json", auto_map={"AutoModel": "evil.py"}, attn_implementation="evil/kernel", dtype="float16")
    found = read_vision_tower(str(folder)).tower
    assert found.dtype == torch.float32


def test_a_pickle_is_never_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(CheckpointError, match=r"weights cannot be read.*expected model\.safetensors"):
        read_vision_tower(str(folder))


@pytest.mark.parametrize("damage", ["missing", "nan", "shape", "truncated"])
def test_weights_that_are_no_vision_tower_are_refused(folder: Path, damage: str) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = "vision_model.encoder.layers.1.mlp.fc1.weight"
    if damage == "missing":
        del weights[name]
    elif damage == "nan":
        weights[name][0, 0] = float("nan")
    else:
        weights[name] = weights[name][1:].clone()
    save_file(weights, path, metadata={"format": "pt"})
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"weights lack|NaN|cannot be read") as caught:
        read_vision_tower(str(folder))
    assert "\n" not in str(caught.value)


def test_a_folder_with_nothing_in_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no CLIP configuration .* or one with an \.onnx file"):
        read_vision_tower(str(tmp_path))
