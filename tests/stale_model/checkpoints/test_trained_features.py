from pathlib import Path
from typing import Any

import pytest
import torch

from stale_model import read_checkpoint
from stale_model.checkpoints.clip import read_clip_parts
from stale_model.checkpoints.loading import load_plain
from stale_model.checkpoints.own_checkpoint import (
    NO_FEATURES,
    StaleWithText,
    TrainedFeatures,
    checkpoint_bytes,
    pack_checkpoint,
)
from stale_runtime.errors import CheckpointError
from stale_runtime.inputs.recipe import clip_recipe
from tests import tiny
from tests.runtime.inputs.drawn import draw_statistics

FEATURES = TrainedFeatures(
    clip_recipe("openai/clip-vit-base-patch16", snippet_s=0.2), draw_statistics(channels=tiny.CHANNELS)
)


@pytest.fixture
def path(clip_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint of ours that knows its features."""
    model = StaleWithText(tiny.make_network(), tiny.make_tower(clip_folder))
    content = pack_checkpoint(model, read_clip_parts(str(clip_folder)), tiny.CLASSES, {}, FEATURES)
    (tmp_path / "best.pth").write_bytes(checkpoint_bytes(content))
    return tmp_path / "best.pth"


def test_a_checkpoint_keeps_recipe_and_statistics(path: Path) -> None:
    assert read_checkpoint(path, "").features == FEATURES
    plain = torch.load(path, weights_only=True)
    assert plain["recipe"]["tower"] == "openai/clip-vit-base-patch16"


def test_a_checkpoint_from_before_recipes_knows_nothing(path: Path) -> None:
    content = load_plain(path).content
    del content["recipe"], content["feature_statistics"]
    torch.save(content, path)
    assert read_checkpoint(path, "").features == NO_FEATURES


def test_a_checkpoint_of_the_original_knows_nothing(checkpoint: Path, clip_folder: Path) -> None:
    assert read_checkpoint(checkpoint, str(clip_folder)).features == NO_FEATURES


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recipe": {"resize": "pad"}}, "resize is 'pad'"),
        ({"recipe": {"frames": torch.tensor([1, 2])}}, "not usable"),
        ({"recipe": [1]}, "a list, expected an object"),
        ({"feature_statistics": {"videos": 1}}, "top level has videos"),
        ({"feature_statistics": torch.zeros(3)}, "not usable"),
        (
            {"feature_statistics": draw_statistics(channels=8).to_json()},
            f"statistics of features 8 wide, expected {tiny.CHANNELS}",
        ),
    ],
)
def test_damaged_statements_about_features_are_named(path: Path, change: dict[str, Any], says: str) -> None:
    torch.save({**load_plain(path).content, **change}, path)
    with pytest.raises(
        CheckpointError, match=rf"best\.pth: what it says about its features is not usable .*{says}|{says}"
    ):
        read_checkpoint(path, "")
