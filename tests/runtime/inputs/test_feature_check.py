import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from stale_runtime.inputs.feature_check import FeatureCheck
from stale_runtime.inputs.feature_origin import FeatureOrigin
from stale_runtime.inputs.feature_statistics import summarise_features
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE, FeatureRecipe, clip_recipe
from tests.runtime.inputs.drawn import Array, draw_statistics, draw_video, rotate

STATISTICS = draw_statistics()
CHECK = FeatureCheck(recipe=UNKNOWN_RECIPE, statistics=STATISTICS)
CLIP = clip_recipe("openai/clip-vit-base-patch16", snippet_s=0.2)
VIDEO = draw_video(1)
LONG = draw_video(2, snippets=512)


def problem_with(features: Array, check: FeatureCheck = CHECK, *, snippet_s: float | None = None) -> str | None:
    return check.problem_with(summarise_features(features), snippet_s=snippet_s)


def normalise(features: Array) -> Array:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True))


def pad(features: Array) -> Array:
    return np.concatenate([features, np.zeros_like(features)])


def narrow(features: Array) -> Array:
    return np.concatenate([rotate(features)[:, :256], np.zeros((len(features), 256), np.float32)], axis=1)


def noise(features: Array) -> Array:
    return np.asarray(np.random.default_rng(3).standard_normal(features.shape), np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            rotate,
            r"features of another CLIP or of another layer of it, .* \(cosine to the training's .*, expected at least",
        ),
        (noise, "features of another CLIP.* or not of images at all"),
        (narrow, "features of another CLIP, padded to the width: 256 of 512 columns are zeros"),
        (normalise, "length-normalised features: rows of length 1, in training 9.* to 10"),
        (pad, r"padded with zeros: 50% of the rows, in training at most 0%; remove them: features\[features.any"),
        (np.zeros_like, "all rows are zeros"),
        (lambda features: 25 * features, "scaled features, .* rows of length 2"),
        (lambda features: features / 25, "scaled features, .* rows of length 0"),
    ],
)
def test_each_wrong_recipe_is_named(make: Callable[[Array], Array], message: str) -> None:
    assert problem_with(VIDEO) is None
    found = problem_with(make(VIDEO))
    assert found is not None
    assert re.match(message, found)
    assert "; " in found, "a remedy"


def test_transposed_features_are_told_from_others() -> None:
    assert problem_with(LONG) is None
    assert problem_with(np.ascontiguousarray(LONG.T)) == "transposed features, whose rows are channels; save features.T"
    assert "another CLIP" in str(problem_with(rotate(LONG)))


def test_no_genuine_video_is_warned_of() -> None:
    found = [
        problem_with(draw_video(seed, snippets=1 + seed % 300), snippet_s=0.4 + seed % 2) for seed in range(1000, 1300)
    ]
    assert found == [None] * 300


def test_padding_is_judged_by_what_the_training_had() -> None:
    padded = pad(VIDEO)
    assert problem_with(np.concatenate([VIDEO, np.zeros((5, 512), np.float32)])) is None, "a few rows do little harm"
    trained = replace(STATISTICS, zero_rows_high=0.6)
    assert problem_with(padded, replace(CHECK, statistics=trained)) is None


def test_features_of_a_training_on_normalised_ones_are_the_wrong_ones_otherwise() -> None:
    trained = replace(CHECK, statistics=replace(STATISTICS, norm_low=1.0, norm_high=1.0))
    assert problem_with(normalise(VIDEO), trained) is None
    assert "not length-normalised: rows of length 9" in str(problem_with(VIDEO, trained))
    around = replace(CHECK, statistics=replace(STATISTICS, norm_low=0.8, norm_high=1.3))
    assert problem_with(normalise(VIDEO), around) is None, "rows of length 1 are nothing special then"


@pytest.mark.parametrize("snippet_s", [0.13, 0.5, 1.9])
def test_common_seconds_a_snippet_are_accepted(snippet_s: float) -> None:
    assert problem_with(VIDEO, snippet_s=snippet_s) is None


@pytest.mark.parametrize("snippet_s", [0.02, 8.0])
def test_unlikely_seconds_a_snippet_are_noticed(snippet_s: float) -> None:
    expected = f"{snippet_s:.3g} s a snippet, in training 0.5 to 0.5: is --fps, --stride or a duration wrong"
    assert expected in str(problem_with(VIDEO, snippet_s=snippet_s))
    assert problem_with(VIDEO[:2], snippet_s=snippet_s) is None, "too short to tell"
    unknown = replace(CHECK, statistics=replace(STATISTICS, snippet_s_low=None, snippet_s_high=None))
    assert problem_with(VIDEO, unknown, snippet_s=snippet_s) is None


def test_a_recipe_says_the_seconds_a_snippet_exactly() -> None:
    check = FeatureCheck(recipe=CLIP, statistics=STATISTICS)
    assert problem_with(VIDEO, check, snippet_s=0.25) is None
    assert "0.4 s a snippet, in training 0.2" in str(problem_with(VIDEO, check, snippet_s=0.4))


def origin(recipe: FeatureRecipe) -> FeatureOrigin:
    return FeatureOrigin(recipe=recipe, duration_s=12, snippets=60, source_sha256="0" * 64)


def test_a_known_recipe_is_compared_property_by_property() -> None:
    check = FeatureCheck(recipe=CLIP, statistics=None)
    assert check.problem_with(None, origin=origin(CLIP)) is None
    assert check.problem_with(None, origin=origin(UNKNOWN_RECIPE)) is None
    found = check.problem_with(None, origin=origin(replace(CLIP, channel_order="bgr", snippet_s=0.1)))
    assert found is not None
    assert (
        "channel_order bgr instead of rgb, snippet_s 0.1 instead of 0.2; make them as those of the training: tower"
        in found
    )


def test_the_remedy_has_the_recipe_if_it_is_known() -> None:
    check = FeatureCheck(recipe=CLIP, statistics=STATISTICS)
    assert (
        "make them as those of the training: tower openai/clip-vit-base-patch16, image_size 224, interpolation bicu"
        in (problem_with(rotate(VIDEO), check) or "")
    )
    assert "ask whoever trained the network" in str(problem_with(rotate(VIDEO)))


def test_a_training_whose_videos_share_no_direction_tells_nothing() -> None:
    loose = replace(STATISTICS, cosine_low=0.2)
    assert FeatureCheck(recipe=UNKNOWN_RECIPE, statistics=loose).lowest_cosine is None
    assert problem_with(rotate(VIDEO), replace(CHECK, statistics=loose)) is None
    middle = replace(STATISTICS, cosine_low=0.6)
    assert FeatureCheck(recipe=UNKNOWN_RECIPE, statistics=middle).lowest_cosine == pytest.approx(0.36)
    narrow_statistics = draw_statistics(channels=16)
    assert FeatureCheck(recipe=UNKNOWN_RECIPE, statistics=narrow_statistics).lowest_cosine is None


def test_nothing_is_compared_with_nothing() -> None:
    nothing = FeatureCheck(recipe=UNKNOWN_RECIPE, statistics=None)
    assert not nothing.knows_anything
    assert problem_with(noise(VIDEO), nothing, snippet_s=0.02) is None
    assert FeatureCheck(recipe=FeatureRecipe(frames=1), statistics=None).knows_anything


def test_values_that_cannot_be_compared_are_left_to_the_reader() -> None:
    assert CHECK.problem_with(None) is None


NOTHING_KNOWN = FeatureCheck(recipe=UNKNOWN_RECIPE, statistics=None)


@pytest.mark.parametrize(
    ("change", "snippet_s", "says"),
    [
        (lambda features: features * 0, None, "all rows are zeros"),
        (lambda features: np.concatenate([features, features * 0]), None, "padded with zeros: 50% of the rows; remove"),
        (lambda features: features * (np.arange(512) < 256), None, "padded to the width: 256 of 512 columns are zeros"),
        (
            lambda features: features,
            5 / 25_000,
            "0.0002 s a snippet, which is very short: is --fps, --stride or a dura",
        ),
        (lambda features: features, 200.0, "200 s a snippet, which is very long"),
        (lambda features: features, 0.2, None),
    ],
)
def test_what_is_wrong_whatever_the_training_was_is_noticed_without_statistics(
    change: Callable[[Array], Array], snippet_s: float | None, says: str | None
) -> None:
    features = change(np.random.default_rng(0).normal(1, 1, size=(40, 512)).astype(np.float32))
    found = NOTHING_KNOWN.problem_with(summarise_features(features), snippet_s=snippet_s)
    assert found is None if says is None else says in str(found)
