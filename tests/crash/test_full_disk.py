"""On a full disk, commands say so in one line, and writers change nothing and leave nothing behind."""

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from stale_model.training import training_files
from tests import tiny
from tests.crash.faults import files, snapshot, visible
from tests.crash.writers import WRITERS, Writer

PAGE = 4096
DISK = 200 * PAGE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few hundred kilobytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here; this test needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_whatever_room_there_is_the_old_state_or_the_new_one_stands(
    writer: Writer, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_files, "curves_png", lambda history: b"picture" * len(history))
    (tmp_path / "before").mkdir()
    writer.before(tmp_path / "before")
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    writer.write(tmp_path / "after")
    allowed = list(writer.states(snapshot(tmp_path / "before"), snapshot(tmp_path / "after")))
    refused = 0
    for pages in (0, 1, 2, 4, 6, 8, 10, 12, 14, 16):
        folder = small_disk / "folder"
        shutil.copytree(tmp_path / "before", folder)
        leave_room(small_disk, pages * PAGE)
        with suppress(OSError):
            writer.write(folder)
        found = files(snapshot(folder))
        assert found == files(visible(folder))
        assert found in allowed
        refused += found != files(snapshot(tmp_path / "after"))
        (small_disk / "ballast").unlink()
        writer.write(folder)
        assert snapshot(folder) == snapshot(tmp_path / "after")
        shutil.rmtree(folder)
    assert 0 < refused < 10


def leave_room(disk: Path, free: int) -> None:
    """Fill a disk until only this many bytes are free."""
    with open(disk / "ballast", "wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - free))


@pytest.fixture
def work(bundle: Path, checkpoint: Path, clip_folder: Path, tmp_path: Path) -> Path:
    """A folder with all that the commands need."""
    shutil.copytree(bundle, tmp_path / "bundle")
    shutil.copytree(clip_folder, tmp_path / "clip")
    shutil.copy(checkpoint, tmp_path / "best.pth")
    np.save(tmp_path / "video.npy", np.random.default_rng(0).standard_normal((30, tiny.CHANNELS)))
    (tmp_path / "classes.txt").write_text("polo\nsnooker\n")
    (tmp_path / "out.json").write_text("old")
    return tmp_path


def run_limited(size: int, name: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command that cannot write a file beyond a size in bytes, which fails as on a full disk."""
    return subprocess.run(
        [Path(sys.executable).parent / name, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


def test_stale_run_says_so_and_keeps_the_old_file(work: Path, private_cache: Path) -> None:
    before = snapshot(work)
    arguments = ("video.npy", "--prompts", "classes.txt", "--bundle", "bundle", "--format", "json", "-o", "out.json")
    done = run_limited(50, "stale-run", *arguments, cwd=work)
    assert done.returncode == 2
    assert done.stderr == (
        "stale-run: error: -o out.json: File too large; raise the limit on file sizes, or give another place "
        "(see stale-run --help)\n"
    )
    assert snapshot(work) == before
    assert not files(snapshot(private_cache))


def test_stale_run_says_so_where_stdout_is_a_full_disk(work: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = str(Path(sys.executable).parent / "stale-run")
    arguments = ("video.npy", "--prompts", "classes.txt", "--bundle", "bundle")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [command, *arguments], cwd=work, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "stale-run: error: stdout: No space left on device; make room and run it again\n"


def test_stale_export_says_so_and_keeps_the_old_bundle(work: Path) -> None:
    (work / "many.txt").write_text("".join(f"polo {n}\n" for n in range(2000)))  # a large prompts.npz
    before = snapshot(work)
    arguments = ("--ckpt", "best.pth", "--clip", "clip", "--classes", "many.txt", "-o", "bundle")
    done = run_limited(500_000, "stale-export", *arguments, cwd=work)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "stale-export: error: -o bundle: File too large; raise the limit on file sizes, or give another place "
        "(an existing bundle is unchanged)"
    )
    assert snapshot(work) == before


def test_stale_export_says_where_it_has_no_room_for_a_temporary_file(work: Path) -> None:
    before = snapshot(work)
    done = run_limited(5_000, "stale-export", "--ckpt", "best.pth", "--clip", "clip", "-o", "bundle", cwd=work)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "ONNX Runtime cannot write a temporary file there" in last
    assert last.endswith("make room, raise the limit on file sizes, or set TMPDIR to another folder")
    assert snapshot(work) == before
