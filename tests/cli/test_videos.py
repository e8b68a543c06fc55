"""``stale-run`` on videos, as a user types it."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli import command
from tests.cli.same_process import fails, run
from tests.conftest import BuildOnce
from tests.small_video import with_tower, write_clip
from tests.tiny import CLASSES

pytest.importorskip("av")
PROMPTS = ("--prompts", "classes.txt")


@pytest.fixture(scope="session")
def made(build_once: BuildOnce, bundle: Path) -> Path:
    """Videos, and a bundle with a vision tower; read-only by convention."""

    def make(folder: Path) -> None:
        with_tower(bundle, folder / "stale_bundle")
        write_clip(folder / "holiday.mp4", 12)

    return build_once("videos", make)


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return tmp_path


def results(work: Path, *arguments: str | Path) -> dict[str, Any]:
    done = run("stale-run", *arguments, *PROMPTS, "--format", "json", cwd=work)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_a_video_gives_a_table_in_seconds(work: Path) -> None:
    done = command.run("stale-run", "holiday.mp4", *PROMPTS, cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2].split()[0] == "holiday"
    assert "fractions" not in done.stdout
    assert "00:00:0" in done.stdout


@pytest.mark.parametrize("options", [(), ("--window", "off"), ("--length", "200"), ("--decoder", "upstream")])
def test_a_video_gives_what_its_features_give(work: Path, options: Sequence[str]) -> None:
    assert run("stale-features", "holiday.mp4", "-o", "feats", cwd=work).returncode == 0
    of_video, of_features = (results(work, path, *options) for path in ("holiday.mp4", "feats/holiday.npy"))
    assert of_video == of_features
    assert of_video["unit"] == "seconds"
    assert of_video["results"]["holiday"]


def test_subtitles_need_no_duration(work: Path) -> None:
    run("stale-features", "holiday.mp4", "-o", "feats", cwd=work)
    found = [run("stale-run", p, *PROMPTS, "--format", "srt", cwd=work) for p in ("holiday.mp4", "feats/holiday.npy")]
    assert found[0].stdout == found[1].stdout
    assert " --> " in found[0].stdout


def test_a_folder_may_hold_videos_and_features(work: Path, features: NDArray[np.float32]) -> None:
    folder = work / "both"
    folder.mkdir()
    run("stale-features", "holiday.mp4", "-o", "both", cwd=work)
    shutil.copy(work / "holiday.mp4", folder / "v_b.MP4")
    np.save(folder / "d.npy", features)  # nobody knows how long it lasts
    (folder / "c.mkv").write_bytes(b"no video at all" * 99)
    (folder / "notes.txt").touch()
    done = run("stale-run", "both", *PROMPTS, "--format", "json", "-o", "found.json", cwd=work)
    assert done.returncode == 5
    assert "both/c.mkv" in done.stderr
    assert "both/d.npy: nothing says how long its video lasts" in done.stderr
    assert "2 of 4 videos failed" in done.stderr
    assert list(json.loads((work / "found.json").read_text())["results"]) == ["holiday", "b"]


def test_durations_of_features_do_not_change_those_of_videos(work: Path, features: NDArray[np.float32]) -> None:
    np.save(work / "a.npy", features)
    (work / "durations.csv").write_text("a,80\nholiday,9999\n")
    found = results(work, "a.npy", "holiday.mp4", "--durations", "durations.csv")
    assert found["results"]["holiday"] == results(work, "holiday.mp4")["results"]["holiday"]


@pytest.mark.parametrize(
    "options", [("--duration", "12"), ("--fps", "25", "--stride", "5"), ("--durations", "durations.csv")]
)
def test_a_video_takes_no_duration(work: Path, options: Sequence[str]) -> None:
    says = f"{options[0]}"
    fails("stale-run", "holiday.mp4", *PROMPTS, *options, cwd=work, code=2, says=says)


def test_a_resumed_run_skips_finished_videos(work: Path) -> None:
    (work / "more").mkdir()
    for name in ("a", "c"):
        shutil.copy(work / "holiday.mp4", work / "more" / f"{name}.mp4")
    (work / "more" / "b.mp4").write_bytes(b"broken" * 99)
    arguments = ("more", *PROMPTS, "--format", "json", "-o", "found.json")
    done = run("stale-run", *arguments, "--fail-fast", cwd=work)
    assert done.returncode == 3
    shutil.copy(work / "holiday.mp4", work / "more" / "b.mp4")
    done = run("stale-run", *arguments, "--resume", cwd=work)
    assert done.returncode == 0
    assert "1 of 3 videos were finished before" in done.stderr
    rows = json.loads((work / "found.json").read_text())["results"]
    assert rows["a"] == rows["b"] == rows["c"]


def test_features_beside_another_number_of_rows_are_refused(work: Path, features: NDArray[np.float32]) -> None:
    run("stale-features", "holiday.mp4", "-o", "feats", cwd=work)
    np.save(work / "feats" / "holiday.npy", features)
    fails("stale-run", "feats/holiday.npy", *PROMPTS, cwd=work, code=3, says="says 60 rows, holiday.npy has 40")


def test_a_bundle_without_a_tower_takes_no_videos(work: Path, bundle: Path) -> None:
    says = "the bundle has no vision tower"
    fails("stale-run", "holiday.mp4", *PROMPTS, "--bundle", bundle, cwd=work, code=4, says=says)


def test_a_tower_is_read_for_videos_only(work: Path, features: NDArray[np.float32]) -> None:
    np.save(work / "a.npy", features)
    (work / "stale_bundle" / "vision_encoder.onnx").unlink()
    assert results(work, "a.npy")["results"]["a"]
    fails("stale-run", "holiday.mp4", *PROMPTS, cwd=work, code=4, says="vision_encoder.onnx")


def test_without_the_extra_a_video_names_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for name, options in (("stale-run", PROMPTS), ("stale-features", ("-o", "feats"))):
        fails(name, "holiday.mp4", *options, cwd=work, code=6, says="pip install 'stale-edge[video]'")


def test_features_may_lie_beside_their_videos(work: Path) -> None:
    shutil.copytree(work, work / "videos", ignore=shutil.ignore_patterns("stale_bundle", "classes.txt"))
    expected = results(work, "videos")
    assert run("stale-features", "videos", "-o", "videos", cwd=work).returncode == 0
    done = run("stale-run", "videos", *PROMPTS, "--format", "json", cwd=work)
    said = "stale-run: videos/holiday.npy is taken instead of videos/holiday.mp4, which it was made from\n"
    assert (done.returncode, done.stderr) == (0, said)
    assert json.loads(done.stdout)["results"] == expected["results"]


def test_a_duration_that_does_not_fit_the_rows_is_a_warning(work: Path) -> None:
    run("stale-features", "holiday.mp4", "-o", "feats", cwd=work)
    beside = work / "feats" / "holiday.recipe.json"
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "duration_s": 20}))
    says = "holiday.recipe.json: duration_s is 20, but 60 rows of 0.2 s are 12 s, so times may be wrong; make the"
    done = run("stale-run", "feats/holiday.npy", *PROMPTS, cwd=work)
    assert done.returncode == 0
    assert f"warning: feats/{says}" in done.stderr
    assert run("stale-run", "feats/holiday.npy", *PROMPTS, "--duration", "12", cwd=work).stderr == ""
