import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stale_runtime.errors import RecipeError
from stale_runtime.inputs.feature_folder import feature_files
from stale_runtime.inputs.feature_origin import FeatureOrigin, read_sidecar, sidecar_path
from stale_runtime.inputs.recipe import FeatureRecipe, clip_recipe

ORIGIN = FeatureOrigin(
    recipe=clip_recipe("openai/clip-vit-base-patch16", snippet_s=0.2),
    duration_s=60.04,
    snippets=300,
    source_sha256="0123456789abcdef" * 4,
)


def test_the_origin_stands_beside_the_features_and_is_no_video(tmp_path: Path) -> None:
    features = tmp_path / "my.holiday.npy"
    features.write_bytes(b"")
    assert sidecar_path(features).name == "my.holiday.recipe.json"
    assert read_sidecar(features) is None
    sidecar_path(features).write_bytes(ORIGIN.to_bytes())
    assert read_sidecar(features) == ORIGIN
    assert read_sidecar(features, snippets=300) == ORIGIN
    assert feature_files(tmp_path) == {"my.holiday": features}


def test_what_is_unknown_is_written_as_unknown() -> None:
    origin = FeatureOrigin(recipe=FeatureRecipe(), duration_s=1, snippets=1, source_sha256="0" * 64)
    content = json.loads(origin.to_bytes())
    assert set(content["recipe"].values()) == {"unknown"}
    assert FeatureOrigin.from_json(content) == origin


def test_an_origin_of_replaced_features_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.recipe.json").write_bytes(ORIGIN.to_bytes())
    with pytest.raises(RecipeError, match=r"a\.recipe\.json: says 300 rows, a\.npy has 200; delete it, or make"):
        read_sidecar(tmp_path / "a.npy", snippets=200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version 2, this version of stale-edge reads 1"),
        ({"duration_s": 0}, "duration_s is 0, expected more than 0"),
        ({"duration_s": "60"}, ".* of the wrong type"),
        ({"snippets": 0}, "snippets is 0, expected at least 1"),
        ({"snippets": 1.5}, ".* of the wrong type"),
        ({"source_sha256": "abc"}, "source_sha256 is 'abc', expected 64"),
        ({"recipe": {"resize": "pad"}}, "resize is 'pad'"),
        ({"recipe": 3}, "a int, expected an object"),
        ({"surplus": 1}, "not what stale-features writes"),
    ],
)
def test_a_damaged_origin_is_refused_with_the_remedy(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.recipe.json").write_text(json.dumps({**json.loads(ORIGIN.to_bytes()), **changes}))
    with pytest.raises(RecipeError, match=rf"a\.recipe\.json: {message}.*; delete it, or make the features again"):
        read_sidecar(tmp_path / "a.npy")


def test_a_folder_in_place_of_the_origin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.recipe.json").mkdir()
    with pytest.raises(RecipeError, match="Is a directory"):
        read_sidecar(tmp_path / "a.npy")


def test_a_broken_origin_s_remedy_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "a.recipe.json").write_text("{")
    with pytest.raises(RecipeError, match=r"a\.recipe\.json: not valid JSON .*; delete it, or make") as refused:
        read_sidecar(tmp_path / "a.npy")
    assert str(refused.value).count("a.recipe.json") == 1


@pytest.mark.parametrize("duration_s", [59.8, 60.0, 60.199, 61.2, 58.8])
def test_a_duration_that_fits_the_rows_is_no_problem(duration_s: float) -> None:
    assert replace(ORIGIN, duration_s=duration_s).duration_problem is None


@pytest.mark.parametrize("duration_s", [61.3, 58.7, 90, 25])
def test_a_duration_that_does_not_fit_the_rows_is_told_with_both_figures(duration_s: float) -> None:
    problem = replace(ORIGIN, duration_s=duration_s).duration_problem
    assert problem == f"duration_s is {duration_s:.6g}, but 300 rows of 0.2 s are 60 s"


@pytest.mark.parametrize("duration_s", [181, 19.9])
def test_a_duration_of_another_video_is_refused(duration_s: float, tmp_path: Path) -> None:
    content = {**json.loads(ORIGIN.to_bytes()), "duration_s": duration_s}
    (tmp_path / "a.recipe.json").write_text(json.dumps(content))
    with pytest.raises(RecipeError, match=r"are 60 s, and it is probably of another video; delete it"):
        read_sidecar(tmp_path / "a.npy")


def test_a_video_shorter_than_a_row_has_one_row() -> None:
    assert replace(ORIGIN, duration_s=0.04, snippets=1).duration_problem is None
    assert replace(ORIGIN, recipe=FeatureRecipe(), duration_s=1e5).duration_problem is None
