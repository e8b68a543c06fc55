from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from stale_model.data.common_recipe import find_common_recipe
from stale_model.data.dataset import Selection, VideoSample
from stale_runtime.errors import RecipeError
from stale_runtime.inputs.feature_origin import FeatureOrigin
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE, FeatureRecipe, clip_recipe

CLIP = clip_recipe("openai/clip-vit-base-patch16", snippet_s=0.2, tower_sha256="a" * 64)
BGR = replace(CLIP, channel_order="bgr")


def selection(recipes: Mapping[str, FeatureRecipe | None]) -> Selection:
    """Videos beside whose features a recipe stands, or none."""
    samples = tuple(VideoSample(video, Path(f"f/v_{video}.npy"), 10, ()) for video in recipes)
    origins = {
        video: FeatureOrigin(recipe=recipe, duration_s=10, snippets=50, source_sha256="0" * 64)
        for video, recipe in recipes.items()
        if recipe is not None
    }
    return Selection(samples=samples, origins=origins)


def test_features_without_a_recipe_have_the_user_s_or_none() -> None:
    plain = selection({"a": None, "b": None})
    assert find_common_recipe([plain], None) == UNKNOWN_RECIPE
    assert find_common_recipe([plain], BGR) == BGR


def test_one_recipe_beside_all_features_is_theirs() -> None:
    renamed = replace(CLIP, tower="my_folder")
    assert find_common_recipe([selection({"a": CLIP, "b": renamed}), selection({"c": CLIP})], None) == CLIP


def test_mixed_recipes_are_refused_wherever_they_are() -> None:
    for mixed in ([selection({"a": CLIP, "b": BGR})], [selection({"a": CLIP}), selection({"b": BGR})]):
        for given in (None, CLIP):
            with pytest.raises(
                RecipeError,
                match=r"^f/v_b\.recipe\.json: channel_order bgr instead of rgb, the recipe of f/v_a\.recipe\.json; a ",
            ):
                find_common_recipe(mixed, given)


def test_other_weights_of_one_name_are_mixed_recipes() -> None:
    with pytest.raises(RecipeError, match="a tower openai/clip-vit-base-patch16 with other weights"):
        find_common_recipe([selection({"a": CLIP, "b": replace(CLIP, tower_sha256="b" * 64)})], None)


def test_the_user_must_not_contradict_what_stands_beside_the_features() -> None:
    with pytest.raises(
        RecipeError, match=r"--recipe: channel_order bgr instead of rgb, which f/v_a\.recipe\.json says"
    ):
        find_common_recipe([selection({"a": CLIP})], BGR)


def test_the_user_may_complete_it() -> None:
    partly = replace(CLIP, frames=None)
    assert find_common_recipe([selection({"a": partly})], FeatureRecipe(frames=4)) == replace(CLIP, frames=4)


def test_features_of_which_only_some_say_how_they_were_made_need_the_user() -> None:
    partly = selection({"a": CLIP, "b": None, "c": None})
    with pytest.raises(RecipeError, match=r"^f/v_b\.npy: nothing beside it says how .*beside 1 others.* give --recipe"):
        find_common_recipe([partly], None)
    assert find_common_recipe([partly], FeatureRecipe(frames=1)) == CLIP
