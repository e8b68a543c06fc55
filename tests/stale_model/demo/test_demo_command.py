import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from click.testing import CliRunner

from stale_model.demo.demo_classes import SPLITS
from stale_model.demo.demo_command import demo
from stale_model.demo.demo_folder import DemoSize, TowerScores, write_demo
from stale_model.demo.demo_towers import CHANNELS
from stale_model.demo.tower_files import SNIPPET_S
from stale_runtime import read_features, read_ground_truth, read_prompts
from stale_runtime.commands.extract_features import stale_features
from stale_runtime.errors import DatasetError, MissingPackageError

SIZE = DemoSize(videos=2, validation_videos=2, stills=128, epochs=1)
NO_TOWERS = DemoSize(videos=1, validation_videos=0, stills=128, epochs=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "data"
    scores = write_demo(folder, SIZE, seed=3)
    assert 0 <= min(scores.seen, scores.unseen) <= max(scores.seen, scores.unseen) <= 1
    return folder


@pytest.fixture
def without_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes long."""
    monkeypatch.setattr("stale_model.demo.demo_folder._write_towers", lambda *_: TowerScores(seen=0.955, unseen=0.8))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "again", SIZE, seed=3)
    assert contents(tmp_path / "again") == contents(folder)


@pytest.mark.usefixtures("without_towers")
def test_a_video_does_not_depend_on_how_many_there_are_but_on_the_seed(folder: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "less", NO_TOWERS, seed=3)
    write_demo(tmp_path / "other", NO_TOWERS, seed=4)
    name = "videos/training/training_0000.mp4"
    assert contents(tmp_path / "less")[name] == contents(folder)[name] != contents(tmp_path / "other")[name]


def test_the_runtime_reads_every_file(folder: Path) -> None:
    for split, names in SPLITS.items():
        assert read_prompts(folder / "splits" / f"{split}.txt").names == names
    for subset in ("training", "validation"):
        videos = read_ground_truth(folder / "annotations.json", subset=subset).videos
        files = {path.stem for path in (folder / "videos" / subset).iterdir()}
        assert files == set(videos)
        assert len(files) == 2


def test_stale_features_computes_the_features_of_the_videos(folder: Path, tmp_path: Path) -> None:
    arguments = [folder / "videos/validation", "-o", tmp_path / "features", "--vision", folder / "vision"]
    result = CliRunner().invoke(stale_features, list(map(str, arguments)), standalone_mode=False)
    assert result.exit_code == 0, result.output
    for name, video in read_ground_truth(folder / "annotations.json", subset="validation").videos.items():
        features = read_features(tmp_path / "features" / f"{name}.npy", CHANNELS)
        assert video.duration_s is not None
        assert len(features) == round(video.duration_s / SNIPPET_S)
        assert np.linalg.norm(features.astype(np.float32), axis=1).mean() == pytest.approx(10, rel=0.5)


@pytest.mark.parametrize("what", ["file inside", "file"])
def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, what: str) -> None:
    target = tmp_path / "data"
    if what == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "mine.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match="data: exists and is not empty; give a new folder"):
        write_demo(target, NO_TOWERS)
    assert contents(tmp_path) == before


def test_a_full_disk_is_said_as_such_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def fill(path: Path, data: bytes) -> int:
        if path.suffix == ".mp4":
            raise OSError(28, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(DatasetError, match="data: No space left on device; make room"):
        write_demo(tmp_path / "data", NO_TOWERS)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_towers")
def test_what_is_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(_items: Iterable[object], _label: str, _total: int) -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "data", NO_TOWERS, watch=interrupt)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_towers")
def test_the_command_fills_an_empty_folder_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    result = CliRunner().invoke(demo, [str(tmp_path / "data"), "--videos", "2", "--validation-videos", "1"])
    assert result.exit_code == 0, result.output
    first, second = result.output.splitlines()
    assert first.startswith(f"{tmp_path / 'data'}: 2 training and 1 validation videos of 15 seen and 5 unseen classes")
    assert (
        second == "of other stills, the towers name 96% of the seen and 80% of the unseen classes right; chance is 5%"
    )
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["annotations.json", "splits", "videos"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_missing_package_is_named_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "stale_model.demo.demo_folder", raising=False)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    result = CliRunner().invoke(demo, [str(tmp_path / "data")])
    assert isinstance(result.exception, MissingPackageError)
    assert "the demo needs onnxscript, which is not installed; install it with: " in str(result.exception)
    assert str(result.exception).endswith(" -m pip install 'stale-edge[export,video]'")
    assert not list(tmp_path.iterdir())
