import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPVisionModelWithProjection

from stale_export.bundle_writer import write_bundle
from stale_export.drawn_images import draw_images
from stale_runtime import Localizer
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.vision_spec import Precision
from stale_runtime.errors import BundleError, ChecksumError
from stale_runtime.inference.bundle_check import self_test
from stale_runtime.inputs.recipe import CLIP_DEVIATION, CLIP_MEAN, FeatureRecipe
from stale_runtime.video.vision_encoder import VISION_FILES, VisionEncoder, average_frames
from tests import tiny
from tests.runtime.helpers import altered, with_file
from tests.runtime.video.encoders import encoder_model, write_encoder

IMAGES = draw_images(9, tiny.IMAGE_SIZE)


@pytest.fixture
def copy(vision_bundle: Path, tmp_path: Path) -> Path:
    """A bundle with a vision tower, to change."""
    return Path(shutil.copytree(vision_bundle, tmp_path / "copy"))


@pytest.mark.parametrize(("precision", "lowest"), [("fp32", 0.9999), ("int8", 0.98), (None, 0.98)])
def test_embeddings_are_those_of_the_tower_in_pytorch(
    vision_bundle: Path, vision_folder: Path, precision: Precision | None, lowest: float
) -> None:
    tower = CLIPVisionModelWithProjection.from_pretrained(vision_folder)
    pixels = torch.from_numpy((IMAGES / 255 - CLIP_MEAN) / CLIP_DEVIATION).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = tower(pixel_values=pixels).image_embeds.numpy()
    got = VisionEncoder.open(Bundle(vision_bundle), precision).embed(IMAGES)
    assert got.dtype == np.float32
    assert got.shape == (9, tiny.CHANNELS)
    cosines = (got * wanted).sum(axis=1) / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.min() > lowest
    assert (cosines.min() < 1 - 1e-6) == (precision != "fp32")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_image_has_the_same_embedding_wherever_it_is(vision_bundle: Path, precision: Precision) -> None:
    encoder = VisionEncoder.open(Bundle(vision_bundle), precision)
    together = encoder.embed(IMAGES)
    np.testing.assert_array_equal(encoder.embed(IMAGES[::-1]), together[::-1])
    np.testing.assert_array_equal(np.concatenate([encoder.embed(image[None]) for image in IMAGES]), together)
    assert encoder.embed(IMAGES[:0]).shape == (0, tiny.CHANNELS)


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES[:, :-1], IMAGES.astype(np.float32), IMAGES[..., :1]])
def test_other_arrays_are_refused(vision_bundle: Path, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(B, 32, 32, 3\)"):
        VisionEncoder.open(Bundle(vision_bundle)).embed(images)


def test_a_bundle_without_a_tower_says_so(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no vision tower, which videos need; give features .* --vision"):
        VisionEncoder.open(Bundle(bundle))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
@pytest.mark.parametrize("file", layout.VISION_ENCODERS)
def test_a_broken_tower_matters_only_where_it_is_used(copy: Path, features: np.ndarray, file: str, damage: str) -> None:
    before = Localizer.open(copy).detect(features, tiny.CLASSES)
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).unlink()
    if damage != "missing":
        (copy / file).write_bytes(data if damage == "flipped" else data[:-9])
    assert Localizer.open(copy).detect(features, tiny.CLASSES) == before
    precision: Precision = "fp32" if file == layout.VISION_ENCODER else "int8"
    error = BundleError if damage == "missing" else ChecksumError
    with pytest.raises(error, match=rf"{file}.*(missing|changed since)"):
        VisionEncoder.open(Bundle(copy), precision)
    with pytest.raises(error, match=file):
        list(self_test(Bundle(copy)))


def test_a_link_in_place_of_a_tower_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / layout.VISION_ENCODER).rename(tmp_path / "elsewhere")
    (copy / layout.VISION_ENCODER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="is a link"):
        Bundle(copy)


def test_other_files_are_still_needed(copy: Path) -> None:
    (copy / layout.TOKENIZER).unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        Bundle(copy)


@pytest.mark.parametrize(("there", "missing"), [("int8", "fp32"), ("fp32", "int8")])
def test_a_bundle_may_have_one_tower(vision_bundle: Path, tmp_path: Path, there: Precision, missing: Precision) -> None:
    manifest = Bundle(vision_bundle).manifest
    files = {name: (vision_bundle / name).read_bytes() for name in manifest.files if name != VISION_FILES[missing]}
    write_bundle(tmp_path / "one", manifest, files)
    with Bundle(tmp_path / "one") as bundle:
        assert VisionEncoder.open(bundle).name == VISION_FILES[there]
        with pytest.raises(BundleError, match=f"no vision tower in {missing}; use {there}"):
            VisionEncoder.open(bundle, missing)


def test_the_self_test_runs_both_towers(vision_bundle: Path) -> None:
    checks = [check for check in self_test(Bundle(vision_bundle)) if check.what.startswith("vision tower")]
    assert [check.what.split(":")[0] for check in checks] == ["vision tower in fp32"] + 2 * ["vision tower in int8"]
    assert all(check.passed and check.deviation is not None for check in checks)


def test_the_self_test_notices_another_tower(vision_bundle: Path, tmp_path: Path) -> None:
    model = (vision_bundle / layout.VISION_ENCODER_INT8).read_bytes()
    other = with_file(vision_bundle, tmp_path / "other", layout.VISION_ENCODER, model)
    failed = [check.what for check in self_test(Bundle(other)) if not check.passed]
    assert failed == ["vision tower in fp32: image_embeddings"]


def test_a_graph_with_other_inputs_than_the_manifest_says_is_refused(vision_bundle: Path, tmp_path: Path) -> None:
    model = encoder_model().SerializeToString()
    other = with_file(vision_bundle, tmp_path / "other", layout.VISION_ENCODER, model)
    with pytest.raises(BundleError, match=r"pixel_values tensor\(float\).*expected one from images tensor\(uint8\)"):
        VisionEncoder.open(Bundle(other), "fp32")


def test_a_manifest_with_half_a_tower_is_refused(vision_bundle: Path, tmp_path: Path) -> None:
    vision = Bundle(vision_bundle).manifest.vision
    assert vision is not None
    spec = {"recipe": {**vars(vision.recipe), "mean": None}, **{k: v for k, v in vars(vision).items() if k != "recipe"}}
    with pytest.raises(BundleError, match=r"recipe\.mean is unknown"):
        Bundle(altered(vision_bundle, tmp_path / "copy2", vision=spec))
    with pytest.raises(ValueError, match="batch is 65, expected 1 to 64"):
        replace(vision, batch=65)


def test_frames_of_a_row_are_averaged_and_then_normalised() -> None:
    embeddings = np.array([[3, 0], [3, 8], [0, 0], [0, 2]], np.float32)
    recipe = FeatureRecipe(frames=2, normalised=False)
    np.testing.assert_array_equal(average_frames(embeddings, recipe), [[3, 4], [0, 1]])
    np.testing.assert_allclose(
        average_frames(embeddings, replace(recipe, normalised=True)), np.array([[0.6, 0.8], [0, 1]])
    )
    np.testing.assert_array_equal(average_frames(embeddings, FeatureRecipe()), embeddings)
    np.testing.assert_array_equal(average_frames(embeddings[2:3], FeatureRecipe(normalised=True)), [[0, 0]])
    with pytest.raises(ValueError, match="4 embeddings, expected a multiple of 3"):
        average_frames(embeddings, replace(recipe, frames=3))


def test_neither_pytorch_nor_onnx_is_loaded(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    code = (
        "import sys; from pathlib import Path; from stale_runtime.video.vision_encoder import VisionEncoder; "
        f"VisionEncoder.open_folder(Path({str(tmp_path)!r})); "
        "sys.exit(bool({'torch', 'onnx', 'transformers'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
