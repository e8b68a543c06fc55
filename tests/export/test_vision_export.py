import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stale_export import vision_export
from stale_export.drawn_images import draw_images
from stale_export.schemes import PORTABLE_BITS
from stale_export.vision_export import LOWEST_FLOAT_COSINE, LOWEST_INT8_COSINE, ExportedVision, export_vision
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import ExportError, ParityError, QuantizationError
from stale_runtime.inference.bundle_check import VISION_REPLAY
from stale_runtime.inputs.recipe import CLIP_DEVIATION, CLIP_MEAN, UNKNOWN_RECIPE, FeatureRecipe
from stale_runtime.video.vision_encoder import VisionEncoder
from tests import tiny
from tests.runtime.video.encoders import RECIPE, write_encoder

ROWS = FeatureRecipe(snippet_s=0.5, frames=1, normalised=False)


def export(
    vision: Path, recipe: FeatureRecipe = ROWS, said: list[str] | None = None, channels: int = tiny.CHANNELS
) -> ExportedVision:
    say = said.append if said is not None else lambda _: None
    return export_vision(str(vision), channels=channels, recipe=recipe, target="portable", say=say)


def embed(exported: ExportedVision, file: str, images: np.ndarray) -> np.ndarray:
    return VisionEncoder(exported.files[file], exported.spec, channels=tiny.CHANNELS, name=file).embed(images)


def test_the_bundle_says_what_its_tower_is(vision_bundle: Path, vision_folder: Path) -> None:
    manifest = Bundle(vision_bundle).manifest
    vision = manifest.vision
    assert vision is not None
    assert vision.recipe.tower == vision_folder.name
    assert vision.recipe.usable
    assert (vision.recipe.snippet_s, vision.recipe.mean, vision.recipe.image_size) == (0.5, CLIP_MEAN, tiny.IMAGE_SIZE)
    assert (vision.takes_bytes, vision.batch) == (True, 8)
    assert vision.cosine is not None
    assert vision.cosine >= LOWEST_FLOAT_COSINE
    assert vision.int8_cosine is not None
    assert LOWEST_INT8_COSINE <= vision.int8_cosine < 1 - 1e-6
    (record,) = (record for record in manifest.quantization if record.file == layout.VISION_ENCODER_INT8)
    assert (record.weight_bits, record.integer_operators_found) == (PORTABLE_BITS, 14)
    assert {layout.VISION_ENCODER, layout.VISION_ENCODER_INT8} <= manifest.graphs.keys() & manifest.files.keys()
    assert (vision_bundle / layout.VISION_ENCODER_INT8).stat().st_size < (
        vision_bundle / layout.VISION_ENCODER
    ).stat().st_size


def test_without_a_tower_a_bundle_has_no_more_than_before(bundle: Path, vision_bundle: Path) -> None:
    assert Bundle(bundle).manifest.vision is None
    with_tower, without = ({path.name for path in folder.iterdir()} for folder in (vision_bundle, bundle))
    assert with_tower - without == set(layout.VISION_ENCODERS)
    for name in without - {layout.MANIFEST, layout.SELF_TEST}:
        assert (bundle / name).read_bytes() == (vision_bundle / name).read_bytes(), name


def test_a_tower_of_another_width_is_refused(vision_folder: Path) -> None:
    with pytest.raises(ExportError, match="its embeddings are 16 wide, the network's features 20; give the tower"):
        export(vision_folder, channels=20)


def test_a_graph_that_differs_from_pytorch_is_refused(vision_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_export.vision_graph.QUICK_GELU", 1.6)
    with pytest.raises(ParityError, match=r"^vision_encoder\.onnx: .* cosine of .*nothing was written"):
        export(vision_folder)


def test_images_that_are_told_apart_by_little_are_compared_without_their_mean() -> None:
    dice = np.random.default_rng(0)
    exact = (100 + dice.standard_normal((8, 16))).astype(np.float32)
    wrong = (100 + dice.standard_normal((8, 16))).astype(np.float32)
    cosine, centred = vision_export.lowest_image_cosines(wrong, exact)
    assert cosine > LOWEST_FLOAT_COSINE - 1e-3
    assert centred < 0.9
    assert min(vision_export.lowest_image_cosines(exact, exact)) > 1 - 1e-9


def test_int8_that_means_something_else_is_left_out_with_a_warning(
    vision_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision_export, "LOWEST_INT8_COSINE", 1.0)
    said: list[str] = []
    exported = export(vision_folder, said=said)
    assert exported.files.keys() == exported.graphs.keys() == {layout.VISION_ENCODER}
    assert (exported.records, exported.spec.int8_cosine) == ((), None)
    assert any(line.startswith("warning: no vision_encoder.int8.onnx: in int8 an image's") for line in said)


def test_a_graph_of_the_tower_may_be_left_out_but_not_all(vision_folder: Path) -> None:
    exported = export(vision_folder)
    int8 = exported.without({layout.VISION_ENCODER})
    assert int8.files.keys() == int8.graphs.keys() == {layout.VISION_ENCODER_INT8}
    assert (int8.records, int8.spec) == (exported.records, exported.spec)
    assert int8.recording.keys() == exported.recording.keys()
    fp32 = exported.without({layout.VISION_ENCODER_INT8})
    assert (fp32.records, fp32.spec.int8_cosine) == ((), None)
    assert exported.recording.keys() - fp32.recording.keys() == {VISION_REPLAY}
    with pytest.raises(ExportError, match="no graph in int8, and one in float is not wanted; add vision-fp32"):
        fp32.without({layout.VISION_ENCODER})


def test_int8_that_is_computed_in_float_is_refused(vision_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_export, "count_integer_operators", lambda _: 13)
    with pytest.raises(QuantizationError, match="computes 13 of 14 products in integers"):
        export(vision_folder)


def test_images_are_prepared_as_for_the_training(vision_folder: Path) -> None:
    trained = replace(ROWS, mean=(0.1, 0.2, 0.3), deviation=(1.0, 2.0, 0.5), channel_order="bgr", resize="squash")
    said: list[str] = []
    exported = export(vision_folder, trained, said)
    recipe = exported.spec.recipe
    assert (recipe.mean, recipe.channel_order, recipe.resize) == ((0.1, 0.2, 0.3), "bgr", "squash")
    assert recipe.interpolation == "bicubic"
    images = draw_images(2, tiny.IMAGE_SIZE)
    other = embed(export(vision_folder), layout.VISION_ENCODER, images)
    assert not np.allclose(embed(exported, layout.VISION_ENCODER, images), other, rtol=0.05)
    assert any("as for the features of the training: resize squash instead of crop" in line for line in said)


def test_the_tower_of_other_features_is_refused(vision_folder: Path) -> None:
    with pytest.raises(ExportError, match=r"tower .* with which the features of the training were made"):
        export(vision_folder, replace(ROWS, tower="other", tower_sha256="0" * 64))
    with pytest.raises(ExportError, match="image_size 32 instead of 224, with which the features"):
        export(vision_folder, replace(ROWS, image_size=224))


def test_what_is_unknown_is_said(vision_folder: Path) -> None:
    said: list[str] = []
    export(vision_folder, replace(UNKNOWN_RECIPE, tower="openai/clip-vit-base-patch16"), said)
    assert any("made with openai/clip-vit-base-patch16; make sure that" in line for line in said)
    assert any("snippet_s, frames, normalised of the recipe unknown" in line for line in said)


@pytest.mark.parametrize("bytes_", [False, True])
def test_an_encoder_that_is_onnx_already_is_taken_as_it_is(tmp_path: Path, bytes_: bool) -> None:
    folder = write_encoder(tmp_path / "tower", bytes_=bytes_, takes="x", gives=("y", "z"))
    exported = export(folder, UNKNOWN_RECIPE)
    assert exported.files[layout.VISION_ENCODER] == (folder / "model.onnx").read_bytes()
    spec = exported.spec
    assert (spec.input, spec.output, spec.takes_bytes, spec.cosine) == ("x", "y", bytes_, None)
    assert spec.recipe.to_json().items() >= {key: value for key, value in RECIPE.items() if key != "tower"}.items()
    assert layout.VISION_ENCODER_INT8 in exported.files
    images = draw_images(9, RECIPE["image_size"])
    for file in layout.VISION_ENCODERS:
        together = embed(exported, file, images)
        alone = np.concatenate([embed(exported, file, image[None]) for image in images])
        np.testing.assert_array_equal(alone, together)


def test_an_encoder_that_normalises_otherwise_is_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "tower", bytes_=True)
    with pytest.raises(ExportError, match=r"model\.onnx normalises pixels itself, otherwise than"):
        export(folder, replace(ROWS, mean=CLIP_MEAN, deviation=CLIP_DEVIATION))


def test_the_tower_of_a_bundle_can_be_used_again(vision_bundle: Path, tmp_path: Path) -> None:
    manifest = Bundle(vision_bundle).manifest
    assert manifest.vision is not None
    (tmp_path / layout.VISION_ENCODER).write_bytes((vision_bundle / layout.VISION_ENCODER).read_bytes())
    recipe = replace(manifest.vision.recipe, tower_sha256=None)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    images = draw_images(3, tiny.IMAGE_SIZE)
    again = VisionEncoder.open_folder(tmp_path, channels=tiny.CHANNELS).embed(images)
    np.testing.assert_array_equal(again, VisionEncoder.open(Bundle(vision_bundle), "fp32").embed(images))
