"""Runs over a folder of a thousand videos, fifty of them broken, and runs that end early."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command import interruptible, run
from tests.tiny import CHANNELS, CLASSES

VIDEOS, EVERY = 1000, 20
ARGUMENTS = ("features", "--prompts", "classes.txt", "--format", "json", "-o", "out.json")
JOURNAL = "out.json.partial.jsonl"


def npy(array: np.ndarray) -> bytes:
    """An array as a ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def draw_features(seed: int) -> np.ndarray:
    dice = np.random.default_rng(seed)
    return dice.standard_normal((int(dice.integers(4, 40)), CHANNELS)).astype(np.float32)


def npy_with_value(value: float) -> bytes:
    array = draw_features(0)
    array[2, 3] = value
    return npy(array)


def npy_with_pickle() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=draw_features(0), b=draw_features(1))
    return file.getvalue()


BROKEN: tuple[tuple[Callable[[], bytes] | None, str], ...] = (
    (lambda: npy(draw_features(1))[:-5], "truncated"),
    (lambda: b"", "not a .npy file"),
    (lambda: b"not an array at all", "not a .npy file"),
    (npz, "an .npz archive of 2 arrays"),
    (npy_with_pickle, "pickled objects, which are never loaded"),
    (lambda: npy(draw_features(1)[:, 1:]), f"expected (snippets, {CHANNELS})"),
    (lambda: npy_with_value(np.nan), "NaN or infinity"),
    (lambda: npy_with_value(1e9), "a value beyond"),
    (lambda: npy(np.ones((8, CHANNELS), np.int64)), "type int64"),
    (None, "No such file"),
)
"""What replaces a feature file, None for a link to nothing, and what the message about it contains."""


@pytest.fixture(scope="module")
def whole(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle, the prompts and the features; read-only by convention."""
    work = tmp_path_factory.mktemp("thousand")
    shutil.copytree(bundle, work / "stale_bundle")
    (work / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (work / "features").mkdir()
    for n in range(VIDEOS):
        path = work / "features" / f"v_{n:04}.npy"
        if n % EVERY:
            path.write_bytes(npy(draw_features(n)))
        elif make := BROKEN[n // EVERY % len(BROKEN)][0]:
            path.write_bytes(make())
        else:
            path.symlink_to("nowhere")
    return work


@pytest.fixture(scope="module")
def unbroken(whole: Path) -> bytes:
    """The output of an undisturbed run."""
    done = run("stale-run", *ARGUMENTS, "--report", "report.json", cwd=whole)
    assert done.returncode == 5, done.stderr
    return (whole / "out.json").read_bytes()


@pytest.fixture
def work(whole: Path, tmp_path: Path) -> Path:
    """A copy without results, to change; files keep their times."""
    ignore = shutil.ignore_patterns("out.json*", "report.json")
    shutil.copytree(whole, tmp_path / "work", symlinks=True, ignore=ignore)
    return tmp_path / "work"


def stop_early(work: Path, number: int) -> int:
    """Start a run, stop it by a signal when its journal has some videos, and return how many it has."""
    command = [str(Path(sys.executable).parent / "stale-run"), *ARGUMENTS]
    process = subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible)
    journal = work / JOURNAL
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 40):
        pass
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert "repeat the command with --resume to continue" in said
    assert not (work / "out.json").exists()
    return journal.read_bytes().count(b"\n") - 1


def read_finished(work: Path) -> list[str]:
    """The videos in the journal of a run that was stopped."""
    lines = (work / JOURNAL).read_bytes().split(b"\n")[1:-1]
    return [json.loads(line)["video"] for line in lines]


def test_every_good_video_is_done_and_every_broken_one_named(whole: Path, unbroken: bytes) -> None:
    results = json.loads(unbroken)["results"]
    broken = {f"{n:04}" for n in range(0, VIDEOS, EVERY)}
    assert len(results) == VIDEOS - len(broken) == 950
    assert not results.keys() & broken
    report = json.loads((whole / "report.json").read_text())
    assert report["counts"] == {"videos": 1000, "ok": 950, "failed": 50, "skipped": 0, "resumed": 0}
    assert report["exit_code"] == 5
    failed: dict[str, Any] = {video["video"]: video for video in report["videos"] if video["status"] == "failed"}
    assert failed.keys() == broken
    for name, video in failed.items():
        says = BROKEN[int(name) // EVERY % len(BROKEN)][1]
        assert says in video["message"], video
        assert (video["error"], video["exit_code"]) == ("FeatureError", 3)
        assert video["path"] == f"features/v_{name}.npy"
    good = [video for video in report["videos"] if video["status"] == "ok"]
    assert {video["video"]: video["detections"] for video in good} == {
        name: len(rows) for name, rows in results.items()
    }
    assert not (whole / JOURNAL).exists()


def test_fail_fast_stops_at_the_first(work: Path, unbroken: bytes) -> None:
    (work / "features" / "v_0000.npy").unlink()
    done = run("stale-run", *ARGUMENTS, "--fail-fast", "--report", "report.json", cwd=work)
    assert done.returncode == 3
    assert "stopped at the first problem: 19 of 999 videos are done" in done.stderr
    counts = json.loads((work / "report.json").read_text())["counts"]
    assert counts == {"videos": 999, "ok": 19, "failed": 1, "skipped": 979, "resumed": 0}
    results, all_results = json.loads((work / "out.json").read_text())["results"], json.loads(unbroken)["results"]
    assert results == {f"{n:04}": all_results[f"{n:04}"] for n in range(1, 20)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on_without_doing_anything_again(
    work: Path, unbroken: bytes, number: signal.Signals
) -> None:
    kept = stop_early(work, number)
    assert 40 <= kept < 950
    for name in read_finished(work):  # if they were done again, they would fail
        path = work / "features" / f"v_{name}.npy"
        times = path.stat()
        path.write_bytes(b"x" * times.st_size)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = run("stale-run", *ARGUMENTS, "--resume", "--report", "report.json", cwd=work)
    assert done.returncode == 5, done.stderr
    assert f"{kept} of 1,000 videos were finished before" in done.stderr
    assert (work / "out.json").read_bytes() == unbroken
    assert json.loads((work / "report.json").read_text())["counts"]["resumed"] == kept
    assert not (work / JOURNAL).exists()


def test_what_has_changed_since_is_done_again(work: Path, unbroken: bytes) -> None:
    stop_early(work, signal.SIGKILL)
    name = read_finished(work)[3]
    (work / "features" / f"v_{name}.npy").write_bytes(npy(draw_features(5000)))
    done = run("stale-run", *ARGUMENTS, "--resume", cwd=work)
    assert done.returncode == 5, done.stderr
    found, before = json.loads((work / "out.json").read_text())["results"], json.loads(unbroken)["results"]
    assert {video for video in before if found[video] != before[video]} == {name}


def test_another_run_s_journal_is_refused_and_left_alone(work: Path) -> None:
    stop_early(work, signal.SIGKILL)
    before = (work / JOURNAL).read_bytes()
    done = run("stale-run", *ARGUMENTS, "--resume", "--length", "32", cwd=work)
    assert done.returncode == 3
    assert "the interrupted run had other settings (length 16, now 32)" in done.stderr
    done = run("stale-run", *ARGUMENTS, "--resume", "--split-names", cwd=work)
    assert done.returncode == 3
    assert "(split_names False, now True)" in done.stderr
    assert (work / JOURNAL).read_bytes() == before


def test_a_classifier_may_be_added_to_an_interrupted_run(work: Path) -> None:
    kept = stop_early(work, signal.SIGKILL)
    videos = [path.stem for path in (work / "features").glob("*.npy")]
    (work / "best.json").write_text(json.dumps({video: {"class": "Chess", "score": 2} for video in videos}))
    done = run("stale-run", *ARGUMENTS, "--resume", "--external-classifier", "best.json", cwd=work)
    assert done.returncode == 5, done.stderr
    assert f"{kept} of 1,000 videos were finished before" in done.stderr
    results = json.loads((work / "out.json").read_text())["results"]
    assert {row["label"] for rows in results.values() for row in rows} == {"Chess"}


def test_resuming_needs_an_output(work: Path) -> None:
    done = run("stale-run", "features", "--prompts", "classes.txt", "--resume", cwd=work)
    assert done.returncode == 2
    assert "--resume without -o" in done.stderr


def test_fail_fast_ends_with_the_problem_s_code_also_at_the_last(work: Path) -> None:
    for n in range(VIDEOS):
        if not 17 <= n <= 20:
            (work / "features" / f"v_{n:04}.npy").unlink()
    done = run("stale-run", *ARGUMENTS, "--fail-fast", "--report", "report.json", cwd=work)
    assert done.returncode == 3, done.stderr
    assert "stopped at the first problem: 3 of 4 videos are done" in done.stderr
    report = json.loads((work / "report.json").read_text())
    assert report["exit_code"] == 3
    assert report["counts"] == {"videos": 4, "ok": 3, "failed": 1, "skipped": 0, "resumed": 0}


def test_a_run_goes_on_also_where_one_video_is_left(work: Path) -> None:
    stop_early(work, signal.SIGKILL)
    name = read_finished(work)[0]
    for path in (work / "features").iterdir():
        if path.stem != f"v_{name}":
            path.unlink()
    done = run("stale-run", *ARGUMENTS, "--resume", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 videos were finished before" in done.stderr
    assert not (work / JOURNAL).exists()
