"""``stale-run --workers``: the same as with one process, whatever happens to the workers."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime.batch import batch
from tests.cli import command
from tests.cli.odd_detection import GATE, OddDetectionWork
from tests.cli.same_process import Done, run

RUN = ("stale-run", "features", "--prompts", "classes.txt")


@pytest.fixture
def many(work: Path, features: NDArray[np.float32]) -> Path:
    """A folder with seven feature files, two of which are broken, and one strange."""
    folder = work / "features"
    for n, name in enumerate(("v_d", "v_e", "v_f")):
        np.save(folder / f"{name}.npy", features[: 5 + 3 * n])
    (folder / "v_aa.npy").write_bytes(b"no features")
    (folder / "v_e.npy").write_bytes(b"")
    return work


def detect(work: Path, workers: int | str, *options: str) -> Done:
    return run(*RUN, "--workers", str(workers), "--report", f"report-{workers}.json", *options, cwd=work)


@pytest.mark.parametrize(
    "options",
    [["--format", "jsonl"], ["--format", "json"], ["--top", "2", "--format", "csv"]],
    ids=" ".join,
)
def test_two_workers_print_what_one_process_prints(many: Path, options: list[str]) -> None:
    alone, together = (detect(many, workers, *options) for workers in (1, 2))
    assert together == alone
    assert alone.returncode == 5
    assert (many / "report-2.json").read_bytes() == (many / "report-1.json").read_bytes()


def test_at_the_first_error_they_stop_where_one_process_stops(many: Path) -> None:
    alone, together = (detect(many, workers, "--format", "jsonl", "--fail-fast") for workers in (1, 2))
    assert together == alone
    assert (alone.returncode, alone.stdout.count("\n")) == (3, 1)
    assert (many / "report-2.json").read_bytes() == (many / "report-1.json").read_bytes()


def test_a_killed_worker_costs_its_video_which_is_named(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = detect(many, 1, "--format", "jsonl").stdout
    shutil.copy(many / "features" / "v_a.npy", many / "features" / "v_deadly.npy")
    monkeypatch.setattr(batch, "DetectionWork", OddDetectionWork)
    done = detect(many, 2, "--format", "jsonl")
    assert (done.returncode, done.stdout) == (5, expected)
    assert "error: features/v_deadly.npy: the process that worked on it was ended by SIGKILL" in done.stderr
    (failed,) = [
        video
        for video in json.loads((many / "report-2.json").read_text())["videos"]
        if video.get("error") == "WorkerError"
    ]
    assert failed["video"] == "deadly"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["kill", "int"])
def test_workers_end_with_their_run_which_continues(many: Path, number: int, code: int) -> None:
    shutil.copy(many / "features" / "v_a.npy", many / "features" / "v_stuck.npy")
    assert detect(many, 1, "--format", "json", "-o", "alone.json").returncode == 5
    gate = many / "gate"
    os.mkfifo(gate)
    options = ["--workers", "2", "--format", "json", "-o", "found.json"]
    running = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.odd_detection", *RUN[1:], *options],
        cwd=many,
        env={**os.environ, GATE: str(gate), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=command.interruptible,
        start_new_session=True,
    )
    assert gate.read_bytes() == b"stuck"
    if number == signal.SIGKILL:
        running.kill()
    else:
        os.killpg(running.pid, number)
    _, said = running.communicate(timeout=60)  # until all processes that write there have ended
    assert running.returncode == code, said
    assert number == signal.SIGKILL or "repeat the command with --resume to continue" in said
    assert not (many / "found.json").exists()
    done = run(*RUN, *options, "--resume", cwd=many)
    assert done.returncode == 5
    assert " of 8 videos were finished before" in done.stderr
    assert (many / "found.json").read_bytes() == (many / "alone.json").read_bytes()


def test_a_bundle_that_is_replaced_meanwhile_is_noticed(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = batch.BatchRun.detect

    def detect_later(task: batch.BatchRun, *args: object, **options: object) -> object:
        manifest = many / "stale_bundle" / "manifest.json"
        manifest.write_bytes(manifest.read_bytes() + b" ")
        return prepare(task, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(batch.BatchRun, "detect", detect_later)
    done = detect(many, 2, "--format", "json", "-o", "found.json")
    assert done.returncode == 4
    assert not (many / "found.json").exists()


def test_one_video_needs_no_worker_and_a_stream_can_have_none(work: Path) -> None:
    assert run("stale-run", "v_one.npy", *RUN[2:], "--workers", "auto", cwd=work).returncode == 0
    done = run("stale-run", "-", *RUN[2:], "--workers", "2", cwd=work)
    assert done.returncode == 2
    assert "--workers with -, a stream of one video; leave it out" in done.stderr
