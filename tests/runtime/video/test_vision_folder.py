import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from stale_runtime.errors import RecipeError
from stale_runtime.video import vision_folder
from stale_runtime.video.vision_encoder import VisionEncoder
from stale_runtime.video.vision_folder import is_vision_folder, read_vision_folder
from tests.runtime.video.encoders import RECIPE, SIZE, WEIGHTS, encoder_model, write_encoder
from tests.tiny import CHANNELS

IMAGES = np.random.default_rng(1).integers(0, 256, (11, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("takes", ["pixel_values", "x"])
@pytest.mark.parametrize("gives", [("image_embeds",), ("y",), ("y", "last_hidden_state")])
def test_input_and_output_are_found_whatever_they_are_called(
    tmp_path: Path, takes: str, gives: tuple[str, ...]
) -> None:
    encoder = VisionEncoder.open_folder(write_encoder(tmp_path, takes=takes, gives=gives))
    pixels = (IMAGES / 255 - RECIPE["mean"]) / RECIPE["deviation"]
    wanted = pixels.transpose(0, 3, 1, 2).reshape(len(IMAGES), -1) @ WEIGHTS
    np.testing.assert_allclose(encoder.embed(IMAGES), wanted, rtol=1e-4, atol=1e-4)
    assert encoder.channels == CHANNELS


def test_a_graph_that_normalises_pixels_itself_gets_bytes(tmp_path: Path) -> None:
    encoder = VisionEncoder.open_folder(write_encoder(tmp_path, bytes_=True, file="any.onnx"))
    wanted = IMAGES.astype(np.float64).transpose(0, 3, 1, 2).reshape(len(IMAGES), -1) @ WEIGHTS
    np.testing.assert_allclose(encoder.embed(IMAGES), wanted, rtol=1e-4, atol=1e-2)


def test_the_recipe_gets_the_hash_of_the_file(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "my-tower", recipe={**RECIPE, "tower": "unknown"})
    recipe = VisionEncoder.open_folder(folder).recipe
    assert recipe.tower_sha256 == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert recipe.tower == "my-tower"
    assert recipe.usable


def test_of_several_files_the_one_with_a_known_name_is_taken(tmp_path: Path) -> None:
    write_encoder(tmp_path, file="vision_model.onnx")
    (tmp_path / "text_model.onnx").write_bytes(b"")
    assert read_vision_folder(tmp_path).file == "vision_model.onnx"
    (tmp_path / "vision_model.onnx").rename(tmp_path / "a.onnx")
    with pytest.raises(RecipeError, match=r"2 \.onnx files \(a\.onnx, text_model\.onnx\), expected one, or vision_enc"):
        read_vision_folder(tmp_path)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"extra_input": True}, r"input_ids.*expected one input.*export the image encoder alone"),
        ({"batch": 2}, "expected batches of any size"),
        ({"recipe": {**RECIPE, "image_size": 16}}, r"8, 8\], expected .*16, 16\]; correct image_size"),
        ({"mixes_batch": True}, "in a batch of 3 gets another embedding than alone"),
        ({"width": 12}, r"12\], expected one output \(B, 16\).*give a tower whose embeddings are 16 wide"),
    ],
)
def test_a_graph_that_is_no_such_encoder_is_refused(tmp_path: Path, parts: dict[str, Any], match: str) -> None:
    write_encoder(tmp_path, **parts)
    with pytest.raises(RecipeError, match=match) as caught:
        read_vision_folder(tmp_path, channels=CHANNELS)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_several_outputs_that_fit_are_told_apart_by_name(tmp_path: Path) -> None:
    model = encoder_model(gives=("pooled",))
    second = model.graph.output.add()
    second.CopyFrom(model.graph.output[0])
    second.name = "other"
    model.graph.node.add().CopyFrom(onnx.helper.make_node("Neg", ["pooled"], ["other"]))
    write_encoder(tmp_path)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(RecipeError, match="call the output with the embeddings image_embeds"):
        read_vision_folder(tmp_path)
    second.name = model.graph.node[-1].output[0] = "image_embeds"
    onnx.save(model, tmp_path / "model.onnx")
    assert read_vision_folder(tmp_path).spec.output == "image_embeds"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"image_size": "unknown"}, "recipe.json: image_size unknown"),
        ({"mean": "unknown", "deviation": "unknown"}, "mean, deviation unknown"),
        ({"tower_sha256": "0" * 64}, "is of a tower with sha256 0000"),
        ({"mean": [1, 2]}, "mean is"),
    ],
)
def test_a_recipe_that_does_not_say_enough_is_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    write_encoder(tmp_path, recipe={**RECIPE, **change})
    with pytest.raises(RecipeError, match=match):
        read_vision_folder(tmp_path)


def test_a_folder_without_a_recipe_or_without_a_graph_is_named(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    (tmp_path / "recipe.json").rename(tmp_path / "aside")
    with pytest.raises(RecipeError, match=r"no recipe\.json, expected one that says how .*; write it as"):
        read_vision_folder(tmp_path)
    (tmp_path / "aside").rename(tmp_path / "recipe.json")
    assert is_vision_folder(tmp_path)
    (tmp_path / "model.onnx").unlink()
    assert not is_vision_folder(tmp_path)
    with pytest.raises(RecipeError, match=r"0 \.onnx files \(none\)"):
        read_vision_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00garbage", b"\x3a\x00"])
def test_bytes_that_are_no_graph_are_refused(tmp_path: Path, content: bytes) -> None:
    write_encoder(tmp_path)
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(RecipeError, match=r"model\.onnx: .*export the image encoder again") as caught:
        read_vision_folder(tmp_path)
    assert "bundle" not in str(caught.value)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    onnx.save(
        encoder_model(), tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0
    )
    with pytest.raises(RecipeError, match=r"keeps tensors in another file, which is never read; export .* in one file"):
        read_vision_folder(tmp_path)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    model = encoder_model()
    weights = np.full((len(WEIGHTS), CHANNELS), np.inf, np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "weights"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(RecipeError, match="gives NaN or infinity"):
        read_vision_folder(tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_encoder(tmp_path)
    monkeypatch.setattr(vision_folder, "LARGEST_FILE", 100)
    with pytest.raises(RecipeError, match="more than 100 bytes"):
        read_vision_folder(tmp_path)
