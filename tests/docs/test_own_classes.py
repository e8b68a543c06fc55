"""The image encoder that docs/training.md makes for one's own videos, with a tiny CLIP in place of the real one."""

from pathlib import Path

import pytest

from stale_runtime.video.vision_folder import read_vision_folder
from tests.docs.blocks import read_blocks
from tests.tiny import CHANNELS


def test_the_folder_is_one_that_stale_features_takes(
    vision_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = (block for block in read_blocks("docs/training.md") if block.language == "python")
    code = block.code.replace("openai/clip-vit-base-patch16", str(vision_folder)).replace("512", str(CHANNELS))
    assert code.count(str(vision_folder)) == code.count(f"channels={CHANNELS}") == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(block), "exec"), {})
    found = read_vision_folder(tmp_path / "clip_tower", channels=CHANNELS)
    assert found.spec.recipe.usable
    assert found.spec.recipe.snippet_s == 0.5
