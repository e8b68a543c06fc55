"""However a run of ``stale-run`` ends, it says so in one line, keeps what is finished, and writes its ``--report``."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_runtime.batch.journal import Journal
from tests.cli.same_process import Done, run
from tests.tiny import CHANNELS, CLASSES

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def signals() -> Iterator[None]:
    """As in a command that was started from a terminal, whatever the tests were started from."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def work(tmp_path: Path, bundle: Path) -> Path:
    (tmp_path / "features").mkdir()
    for name in ("a", "b", "c"):
        rows = np.random.default_rng(ord(name)).standard_normal((20, CHANNELS))
        np.save(tmp_path / "features" / f"{name}.npy", rows.astype(np.float32))
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    (tmp_path / "bundle").symlink_to(bundle)
    return tmp_path


def detect(work: Path, *others: str, features: str = "features") -> tuple[Done, dict[str, Any]]:
    """Run with a report; how it ended, and the report."""
    arguments = (features, "--prompts", "classes.txt", "--bundle", "bundle", "--no-cache", "--report", "report.json")
    done = run("stale-run", *arguments, "--format", "json", "-o", "out.json", *others, cwd=work)
    return done, json.loads((work / "report.json").read_text())


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("number", "code", "how"),
    [(2, 130, "interrupted"), (15, 143, "ended by SIGTERM"), (1, 129, "ended by SIGHUP")],
)
def test_a_signal_keeps_what_is_finished(
    work: Path, number: int, code: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Journal.add

    def add_and_end(journal: Journal, *video: Any) -> None:
        add(journal, *video)
        if len(journal) == 2:
            signal.raise_signal(signal.Signals(number))

    monkeypatch.setattr(Journal, "add", add_and_end)
    done, report = detect(work)
    says = f"{how}; 2 of 3 videos are done; repeat the command with --resume to continue"
    assert (done.returncode, done.stderr.strip()) == (code, f"stale-run: error: {says}")
    assert (report["exit_code"], report["ended_by"]) == (code, says)
    assert report["counts"] == {"videos": 3, "ok": 1, "failed": 0, "skipped": 2, "resumed": 0}
    assert not (work / "out.json").exists()

    monkeypatch.undo()
    done, report = detect(work, "--resume")
    assert done.returncode == 0
    assert report["counts"] == {"videos": 3, "ok": 3, "failed": 0, "skipped": 0, "resumed": 2}
    assert (report["exit_code"], report["ended_by"]) == (0, None)


def test_a_bad_bundle_is_reported_instead_of_an_earlier_run(work: Path) -> None:
    assert detect(work)[1]["exit_code"] == 0
    (work / "bundle").unlink()
    shutil.copytree(work / "features", work / "bundle")
    (work / "bundle" / "manifest.json").write_text("{}")
    done, report = detect(work)
    assert done.returncode == report["exit_code"] == 4
    assert done.stderr == f"stale-run: error: {report['ended_by']}\n"
    assert [video["status"] for video in report["videos"]] == ["skipped"] * 3


def test_files_that_are_not_there_are_reported(work: Path) -> None:
    (work / "empty").mkdir()
    done, report = detect(work, features="empty")
    assert (done.returncode, report["exit_code"], report["videos"]) == (3, 3, [])


def test_an_error_of_the_program_is_reported(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "add", lambda *_: 1 / 0)
    done, report = detect(work)
    assert done.returncode == report["exit_code"] == 1
    assert report["ended_by"].startswith("a bug in stale-edge: ZeroDivisionError")


def test_stopping_at_the_first_failure_is_reported(work: Path) -> None:
    (work / "features" / "b.npy").write_text("no array")
    done, report = detect(work, "--fail-fast")
    assert done.returncode == report["exit_code"] == 3
    assert [video["status"] for video in report["videos"]] == ["ok", "failed", "skipped"]


def test_a_report_never_replaces_what_is_read(work: Path) -> None:
    """Not even if the run ends before it is known what is read."""
    video, manifest = work / "features" / "a.npy", (work / "bundle" / "manifest.json")
    before = video.read_bytes(), manifest.read_bytes()
    common = ("features", "--prompts", "classes.txt", "--bundle", "bundle", "--report")
    assert run("stale-run", *common, video, cwd=work).returncode == 2
    assert run("stale-run", *common, manifest, cwd=work).returncode == 2
    (work / "features" / "v_a.npy").write_bytes(b"of the same video")
    done = run("stale-run", *common, video, cwd=work)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 2)
    assert "is not of this run" in done.stderr
    assert (video.read_bytes(), manifest.read_bytes()) == before
