import multiprocessing
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stale_bench.soak.rounds import LONGEST, MEDIAN, SHORTEST, Beginning, NewProcess, Rounds, kept_on, mixed_lengths
from stale_runtime import Localizer, Prompts
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BenchmarkError
from stale_runtime.inference.localizer import Settings
from tests import tiny

CLASSES = Prompts.of(tiny.CLASSES)


@pytest.fixture
def beginning(bundle: Path, tmp_path: Path) -> Beginning:
    settings = Settings(backend="ort-fp32", length=16)
    sha256 = Bundle(bundle).manifest_sha256
    return Beginning(
        bundle=bundle, sha256=sha256, settings=settings, classes=CLASSES, videos=4, seed=0, folder=tmp_path
    )


def test_lengths_are_spread_as_real_videos_are() -> None:
    for videos in (2, 10, 200, 201):
        lengths = mixed_lengths(videos)
        assert len(lengths) == videos
        assert (lengths[0], lengths[-1]) == (SHORTEST, LONGEST)
        assert list(lengths) == sorted(lengths)
    assert np.median(mixed_lengths(201)) == MEDIAN
    assert 0.4 < np.mean(np.array(mixed_lengths(200)) < MEDIAN) < 0.6
    with pytest.raises(ValueError, match="1 videos, expected at least 2"):
        mixed_lengths(1)


def test_a_new_process_goes_through_the_same_rounds(beginning: Beginning, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    Rounds(Localizer(Bundle(beginning.bundle), beginning.settings), CLASSES, videos=4, seed=0, folder=here)
    with NewProcess(beginning) as new:
        for _ in range(2):
            done = new.run()
            assert done.wall_s > 0
            assert done.cpu_s > 0
            assert done.changed == 0
    files = sorted(path.name for path in tmp_path.glob("*.npy"))
    assert files == sorted(path.name for path in here.glob("*.npy")) == ["0.npy", "2.npy"]
    assert all((tmp_path / name).read_bytes() == (here / name).read_bytes() for name in files)


def test_nothing_is_left_of_a_new_process(
    beginning: Beginning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("TMPDIR", str(empty))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with NewProcess(beginning):
        assert len(multiprocessing.active_children()) == 1
    assert not multiprocessing.active_children()
    assert not list(empty.iterdir())


def test_what_a_new_process_cannot_do_is_said(beginning: Beginning, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"^a new process: ChecksumError: .*, expected 0"):
        NewProcess(replace(beginning, sha256="0" * 64))
    with pytest.raises(BenchmarkError, match=r"^a new process: FileNotFoundError: "):
        NewProcess(replace(beginning, folder=tmp_path / "nowhere"))
    assert not multiprocessing.active_children()


def test_a_new_process_that_dies_is_said(beginning: Beginning) -> None:
    with NewProcess(beginning) as new:
        (child,) = multiprocessing.active_children()
        child.kill()
        child.join()
        with pytest.raises(BenchmarkError, match=r"^a new process ended with code -9$"):
            new.run()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a process on a CPU")
def test_processes_are_kept_on_the_same_cpus(beginning: Beginning) -> None:
    allowed = os.sched_getaffinity(0)
    cpu = max(allowed)
    with kept_on((cpu,)):
        assert os.sched_getaffinity(0) == {cpu}
        with NewProcess(beginning):
            (child,) = multiprocessing.active_children()
            assert child.pid is not None
            assert os.sched_getaffinity(child.pid) == {cpu}
    assert os.sched_getaffinity(0) == allowed
    with kept_on(()):
        assert os.sched_getaffinity(0) == allowed
