import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.errors import RecipeError
from stale_runtime.inputs.recipe import FeatureRecipe, clip_recipe, read_recipe

CLIP = clip_recipe("openai/clip-vit-base-patch16", snippet_s=0.2, tower_sha256="0" * 64)
colours = st.tuples(*3 * [st.floats(0.01, 1)])
recipes = st.builds(
    FeatureRecipe,
    tower=st.none() | st.just("openai/clip-vit-base-patch32"),
    tower_sha256=st.none() | st.just("a" * 64),
    image_size=st.none() | st.integers(1, 2048),
    interpolation=st.sampled_from([None, "bicubic", "bilinear"]),
    resize=st.sampled_from([None, "crop", "squash"]),
    mean=st.none() | colours,
    deviation=st.none() | colours,
    channel_order=st.sampled_from([None, "rgb", "bgr"]),
    snippet_s=st.none() | st.floats(0.01, 10),
    frames=st.none() | st.integers(1, 1000),
    normalised=st.sampled_from([None, True, False]),
)


@given(recipe=recipes)
def test_a_recipe_comes_back_from_json(recipe: FeatureRecipe) -> None:
    assert FeatureRecipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert all((value == "unknown") == (name in recipe.unknown) for name, value in recipe.to_json().items())


def test_what_a_file_leaves_out_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"snippet_s": 1, "resize": "unknown", "mean": [0.5, 0.5, 1]}')
    recipe = read_recipe(tmp_path / "recipe.json")
    assert recipe == FeatureRecipe(snippet_s=1.0, mean=(0.5, 0.5, 1.0))
    assert "resize" in recipe.missing
    assert not recipe.usable


def test_clips_own_recipe_is_complete() -> None:
    assert CLIP.unknown == ()
    assert replace(CLIP, tower=None, tower_sha256=None).usable
    assert replace(CLIP, normalised=None).missing == ("normalised",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"interpolation": "lanczos"}, "interpolation is 'lanczos', expected bicubic or bilinear or unknown"),
        ({"resize": "pad"}, "resize is 'pad', expected crop or squash or unknown"),
        ({"channel_order": "RGB"}, "channel_order is 'RGB', expected rgb or bgr or unknown"),
        ({"image_size": 100_000}, "image_size is 100000, expected 1 to 2048"),
        ({"image_size": "224"}, "image_size is '224', expected int or unknown"),
        ({"frames": 0}, "frames is 0, expected 1 to 1000"),
        ({"frames": True}, "frames is 'True', expected int or unknown"),
        ({"snippet_s": -1}, "snippet_s is -1.0, expected 1e-06"),
        ({"mean": [1, 2]}, "mean is .*, expected 3 numbers from -100 to 100"),
        ({"deviation": [0, 1, 1]}, "deviation is .*, expected 3 numbers from 0.001 to 100"),
        ({"tower": "a\nb"}, "tower is .*, expected a name"),
        ({"tower_sha256": "A" * 64}, "tower_sha256 is .*, expected 64 lower-case hexadecimal digits"),
        ({"fps": 25}, "'fps' is no property of a feature recipe, expected tower, tower_sha256"),
        ([], "a list, expected an object with tower"),
    ],
)
def test_a_wrong_recipe_is_refused_with_what_is_expected(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(content))
    with pytest.raises(RecipeError, match=f"recipe.json: {message}"):
        read_recipe(tmp_path / "recipe.json")


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"snippet_s": NaN}')
    with pytest.raises(RecipeError, match="not valid JSON"):
        read_recipe(tmp_path / "recipe.json")


@pytest.mark.parametrize(("duration_s", "rows"), [(60, 300), (60.19, 300), (60.2, 301), (0.05, 1), (0.6, 3), (4.6, 23)])
def test_a_video_has_a_row_for_each_whole_interval(duration_s: float, rows: int) -> None:
    assert CLIP.row_count(duration_s) == rows


@given(n=st.integers(1, 10**6), milliseconds=st.integers(1, 10_000))
def test_a_video_of_whole_rows_loses_none_to_rounding(n: int, milliseconds: int) -> None:
    recipe = FeatureRecipe(snippet_s=milliseconds / 1000)
    assert recipe.row_count(n * milliseconds / 1000) == n


def test_the_rows_of_an_unknown_interval_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="snippet_s is unknown"):
        FeatureRecipe().row_count(10)


def test_recipes_differ_only_in_what_is_known_of_both() -> None:
    assert CLIP.differences(FeatureRecipe()) == ()
    assert CLIP.differences(replace(CLIP, channel_order="bgr", frames=4, mean=None)) == ("channel_order", "frames")
    assert CLIP.differences(replace(CLIP, tower="folder")) == ()
    assert CLIP.differences(replace(CLIP, tower="folder", tower_sha256=None)) == ("tower",)
