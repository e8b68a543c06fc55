from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime import Localizer
from stale_runtime.errors import FeatureError, RecipeError, VideoError
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.video.video_features import ROWS_AT_ONCE, VideoFeatures
from tests.small_video import RECIPE, SIDE, with_tower, write_clip
from tests.tiny import CLASSES

pytest.importorskip("av")


class Colours:
    """A tower that gives the mean colour of each image, and counts the images."""

    def __init__(self, recipe: FeatureRecipe = RECIPE, factor: float = 1) -> None:
        self.recipe, self.channels, self.factor = recipe, 3, factor
        self.images = 0

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert images.shape[1:] == (SIDE, SIDE, 3)
        self.images += len(images)
        return np.asarray(images.mean(axis=(1, 2)) * self.factor, np.float32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", 20)


def test_blocks_are_all_rows(clip: Path) -> None:
    features = VideoFeatures(clip, Colours())
    blocks = list(features.blocks())
    assert features.snippets == 100
    assert features.duration_s == pytest.approx(20, abs=0.05)
    assert [len(block) for block in blocks] == [ROWS_AT_ONCE, 100 - ROWS_AT_ONCE]
    assert len(blocks) == features.block_count
    assert {block.dtype for block in blocks} == {np.dtype(np.float16)}


def test_some_rows_are_those_of_all(clip: Path) -> None:
    features = VideoFeatures(clip, Colours())
    everything = np.concatenate(list(features.blocks()))
    rows = np.array([0, 3, 4, 50, 99])
    assert np.array_equal(np.concatenate(list(features.read_rows(rows))), everything[rows])


@pytest.mark.parametrize(("length", "embedded"), [(16, 32), (20, 20), (50, 100), (100, 100)])
def test_only_rows_that_resampling_reads_are_embedded(clip: Path, length: int, embedded: int) -> None:
    encoder = Colours()
    features = VideoFeatures(clip, encoder).read_resampled(length)
    assert features.shape == (100, 3)
    assert encoder.images == embedded
    assert np.count_nonzero(features.any(axis=1)) == embedded


def test_a_row_is_the_mean_of_its_frames(clip: Path) -> None:
    fine = np.concatenate(list(VideoFeatures(clip, Colours(replace(RECIPE, snippet_s=0.1))).blocks()))
    mean = np.concatenate(list(VideoFeatures(clip, Colours(replace(RECIPE, frames=2))).blocks()))
    assert np.abs(mean - fine.astype(np.float32).reshape(100, 2, 3).mean(axis=1)).max() < 0.1


def test_normalised_rows_have_length_one(clip: Path) -> None:
    rows = np.concatenate(list(VideoFeatures(clip, Colours(replace(RECIPE, normalised=True))).blocks()))
    assert np.linalg.norm(rows.astype(np.float32), axis=1) == pytest.approx(1, abs=1e-3)


def test_an_embedding_beyond_float16_is_refused(clip: Path) -> None:
    with pytest.raises(FeatureError, match=r"clip\.mp4: the embedding of row 0 is beyond float16"):
        list(VideoFeatures(clip, Colours(factor=1e4)).blocks())


def test_a_recipe_has_to_say_all_that_is_needed(clip: Path) -> None:
    with pytest.raises(RecipeError, match="does not say snippet_s, frames"):
        VideoFeatures(clip, Colours(replace(RECIPE, snippet_s=None, frames=None)))


def test_damage_is_told(clip: Path, tmp_path: Path) -> None:
    whole = VideoFeatures(clip, Colours())
    list(whole.blocks())
    assert whole.damage is None
    content = bytearray(clip.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 4000] = bytes(4000)
    (tmp_path / "broken.mp4").write_bytes(content)
    broken = VideoFeatures(tmp_path / "broken.mp4", Colours())
    assert len(np.concatenate(list(broken.blocks()))) == 100
    assert broken.damage is not None
    assert "of its frames are damaged" in broken.damage


def test_the_localizer_finds_in_a_video_what_is_in_its_features(clip: Path, bundle: Path, tmp_path: Path) -> None:
    localizer = Localizer.open(with_tower(bundle, tmp_path / "bundle"), window="off")
    found = localizer.detect_video(clip, CLASSES)
    assert (found.video, found.window) == ("clip", None)
    assert found.duration_s == pytest.approx(20, abs=0.05)
    features = np.concatenate(list(VideoFeatures(clip, localizer._vision.open()).blocks()))
    assert found.detections == localizer.detect(features, CLASSES, duration_s=found.duration_s).detections
    assert len(found) > 0


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video" * 99)
    with pytest.raises(VideoError, match=r"a\.mp4: "):
        VideoFeatures(tmp_path / "a.mp4", Colours())
