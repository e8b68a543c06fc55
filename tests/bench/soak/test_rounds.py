import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stale_bench.measuring.child import Child, WorkerError
from stale_bench.protocol import RoundCost, RunRound, SoakJob, Start
from stale_bench.soak.rounds import LONGEST, MEDIAN, SHORTEST, Rounds, mixed_lengths
from stale_bench.soak.soak import SoakPlan, SoakRequest, make_soak_job
from stale_bench.soak.soak_worker import SoakWorker
from stale_runtime import Localizer, Prompts
from stale_runtime.errors import ChecksumError
from tests import tiny

CLASSES = Prompts.of(tiny.CLASSES)


@pytest.fixture(scope="module")
def localizer(bundle: Path) -> Localizer:
    return Localizer.open(bundle, backend="ort-fp32", length=16)


@pytest.fixture
def job(localizer: Localizer, tmp_path: Path) -> SoakJob:
    plan = SoakPlan(request=SoakRequest(seed=3), localizer=localizer, classes=CLASSES)
    return replace(make_soak_job(plan, tmp_path, ()), videos=4)


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


def test_a_new_process_goes_through_the_same_rounds(localizer: Localizer, job: SoakJob, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    Rounds(localizer, CLASSES, videos=4, seed=3, folder=here)
    with Child(job) as new:
        for _ in range(2):
            cost = new.ask(RunRound())
            assert cost.wall_s > 0
            assert cost.cpu_s > 0
            assert cost.changed == 0
    files = sorted(path.name for path in tmp_path.glob("*.npy"))
    assert files == sorted(path.name for path in here.glob("*.npy")) == ["0.npy", "2.npy"]
    assert all((tmp_path / name).read_bytes() == (here / name).read_bytes() for name in files)


def test_the_job_of_a_new_process_says_how_this_one_works(localizer: Localizer, job: SoakJob, tmp_path: Path) -> None:
    assert (job.backend, job.length, job.decoder, job.threads) == ("ort-fp32", 16, localizer.decoder, 1)
    assert (job.classes, job.seed, job.folder) == (tiny.CLASSES, 3, str(tmp_path))
    assert job.sha256 == localizer.bundle.manifest_sha256


def test_a_bundle_that_was_replaced_is_not_compared_with(job: SoakJob) -> None:
    with pytest.raises(ChecksumError, match=", expected 0"):
        SoakWorker(replace(job, sha256="0" * 64))


def test_what_a_new_process_cannot_do_is_said(job: SoakJob) -> None:
    with Child(replace(job, folder="/nowhere")) as new, pytest.raises(WorkerError, match=r"^FileNotFoundError: "):
        new.ask(RunRound())


def test_a_soak_s_worker_runs_rounds_and_nothing_else(job: SoakJob) -> None:
    worker = SoakWorker(job)
    assert isinstance(worker.answer(RunRound()), RoundCost)
    with pytest.raises(TypeError, match="cannot answer Start"):
        worker.answer(Start())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a process on a CPU")
def test_a_new_process_stays_on_its_cpus(job: SoakJob) -> None:
    cpu = max(os.sched_getaffinity(0))
    with Child(replace(job, cpus=(cpu,))) as new:
        new.ask(RunRound())
        assert os.sched_getaffinity(new.pid) == {cpu}
