"""However a ``stale-train`` ends, the last complete epoch is kept, and ``--resume`` goes on from there."""

import contextlib
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import pytest
import torch

from stale_model.training.epoch_metrics import Epoch
from stale_model.training.output_folder import lock_folder
from stale_model.training.training_files import BEST, LAST
from stale_model.training.training_report import Reporter
from tests.cli.command import interruptible
from tests.cli.same_process import Done
from tests.cli.training import EPOCHS, fails, metrics, run_here, tiny_training

COMMAND = str(Path(sys.executable).parent / "stale-train")


def test_killed_at_any_moment_it_goes_on_to_the_same_end(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    """At many more moments in ``tests/crash/random_kills.py``."""
    for lines in (1, 4):  # after the first epoch, and after one more than was done before
        resume = ["--resume"] if (tmp_path / "out" / LAST).exists() else []
        process = subprocess.Popen(
            [COMMAND, *options, "-o", "out", *resume], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, stderr
        torch.load(tmp_path / "out" / BEST, weights_only=True)
        torch.load(tmp_path / "out" / LAST, weights_only=True)
        assert 0 < len(metrics(tmp_path / "out")) < EPOCHS
    done = run_here(*options, "-o", "out", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "out") == metrics(unbroken)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.fixture(scope="module")
def disturbed(training_data: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> "Disturbed":
    """A training beside which others are started in its folder, and which is then interrupted."""
    folder = tmp_path_factory.mktemp("disturbed")
    options = [*tiny_training(training_data, clip_folder), "-o", "out"]
    with subprocess.Popen(
        [COMMAND, *options, "--epochs", "1000"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        others = [run_here(*options, *more, cwd=folder) for more in ([], ["--resume"], ["--seeds", "2"])]
        was_running = process.poll() is None
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    return Disturbed(folder, Done(process.returncode, stdout, stderr), others, was_running)


@dataclass(frozen=True)
class Disturbed:
    """A training, and others that were started in its folder meanwhile."""

    folder: Path
    first: Done
    others: Sequence[Done]
    was_running: bool
    """Whether the first one was still running after the others."""


def test_interrupted_it_leaves_the_last_epoch_and_says_so(disturbed: Disturbed) -> None:
    assert disturbed.first.returncode == 130
    assert disturbed.first.stderr.strip().splitlines()[-1] == (
        "stale-train: error: interrupted; the last complete epoch is kept in -o out; repeat the command with --resume "
        "to go on from there"
    )
    assert "Traceback" not in disturbed.first.stderr
    assert len(metrics(disturbed.folder / "out")) >= 1
    assert not list((disturbed.folder / "out").glob(".*"))


def test_two_trainings_do_not_share_a_folder(disturbed: Disturbed, options: list[str]) -> None:
    says = "-o out: another stale-train is using it; wait until that ends, or give another folder"
    for other in disturbed.others:
        assert other.returncode == 2
        assert other.stderr.splitlines() == ["stale-train: loading PyTorch", f"stale-train: error: {says}"]
    assert disturbed.was_running
    assert not (disturbed.folder / "out" / "seed_0").exists()
    fails([*options, "-o", "out"], disturbed.folder, code=2, says="contains a training already")


def test_a_folder_is_taken_before_anything_is_looked_for_in_it(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LAST).write_bytes(b"")
    with lock_folder(tmp_path / "out"):
        fails([*options, "-o", "out"], tmp_path, code=2, says="another stale-train is using it")


@contextlib.contextmanager
def interrupted_after(epochs: int) -> Iterator[None]:
    """Let trainings in this process be interrupted when so many epochs are saved."""
    show = Reporter.show_epoch

    def show_and_interrupt(self: Reporter, epoch: Epoch) -> None:
        show(self, epoch)
        if epoch.epoch == epochs:
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reporter, "show_epoch", show_and_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let this process write no file beyond a size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_nothing_that_was_there(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    with interrupted_after(2):
        assert run_here(*options, "-o", "out", cwd=tmp_path).returncode == 130
    before = metrics(tmp_path / "out")
    assert len(before) == 2
    with largest_file(30_000):
        full = run_here(*options, "-o", "out", "--resume", cwd=tmp_path)
    assert full.returncode == 2, full.stderr
    assert "File too large; raise the limit on file sizes" in full.stderr.strip().splitlines()[-1]
    assert metrics(tmp_path / "out") == before
    torch.load(tmp_path / "out" / LAST, weights_only=True)
    done = run_here(*options, "-o", "out", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "out") == metrics(unbroken)


def test_a_reader_that_leaves_does_not_end_the_training(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [COMMAND, *options, "-o", "out"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=120) == 0, said
    assert "error" not in said
    assert metrics(tmp_path / "out") == metrics(unbroken)
    assert (tmp_path / "out" / "summary.csv").exists()


def test_a_full_stdout_is_not_taken_for_a_full_folder(options: list[str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [COMMAND, *options, "-o", "out"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last == "stale-train: error: stdout: No space left on device; make room and run it again"
    torch.load(tmp_path / "out" / LAST, weights_only=True)


def test_resuming_another_training_is_refused(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    out = ["-o", str(unbroken), "--resume"]
    fails(
        [*options, *out, "--epochs", "5"], tmp_path, code=3, says="6 epochs are done, more than --epochs 5; give --ep"
    )
    fails(
        [*options, *out, "--learning-rate", "0.1"], tmp_path, code=3, says="started with learning rate 0.0002, now 0.1"
    )
    fails([*options, *out, "--fraction", "0.5"], tmp_path, code=3, says="started with other videos")
    fails([*options, *out, "--freeze-text"], tmp_path, code=3, says="started with freeze text False, now True")
    fails([*options, "-o", unbroken], tmp_path, code=2, says="contains a training already; give --resume to continue")
    fails([*options, "-o", "new", "--resume"], tmp_path, code=3, says="nothing to resume")


def test_more_epochs_go_on_after_the_end(options: list[str], unbroken: Path, tmp_path: Path) -> None:
    copytree(unbroken, tmp_path / "out")
    done = run_here(*options, "-o", "out", "--resume", "--epochs", "8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    says = "--epochs 8, so far 6: after epoch 6 the learning rate goes on at 2.9e-05 instead of 0, and falls to 0 at"
    assert says in done.stderr
    rows = metrics(tmp_path / "out")
    assert rows[:EPOCHS] == metrics(unbroken)
    assert [row["epoch"] for row in rows[EPOCHS:]] == ["7", "8"]
    saved = torch.load(tmp_path / "out" / LAST, weights_only=True)
    assert saved["training"]["plan"] == [[0, 6], [6, 8]]
    again = run_here(*options, "-o", "out", "--resume", "--epochs", "8", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "so far" not in again.stderr
    saved["training"]["plan"] = [[0, "6"]]
    torch.save(saved, tmp_path / "out" / LAST)
    broken = [*options, "-o", "out", "--resume"]
    fails(
        broken, tmp_path, code=3, says="its history is damaged, or was written by another version of stale-edge (no pl"
    )
