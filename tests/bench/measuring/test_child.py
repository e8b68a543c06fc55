import os
from pathlib import Path

import pytest

from stale_bench.measuring import child
from stale_bench.measuring.child import Child, WorkerError
from stale_bench.protocol import (
    BackendJob,
    EncodeColdPrompts,
    GatherFacts,
    ReadPeakMemory,
    RunRound,
    Start,
    TakeSamples,
    WarmUp,
)
from tests.bench.helpers import make_job


def job(bundle: Path, kind: str, **changes: object) -> BackendJob:
    return make_job(bundle, bundle / "no-cache", engine=f"tests.bench.fakes:{kind}", **changes)


def test_a_worker_answers(bundle: Path) -> None:
    with Child(job(bundle, "Quick")) as worker:
        assert worker.ask(Start()).startup_ms.keys() == {"import", "load", "prompts_warm"}
        assert worker.ask(WarmUp()).repeat_ms > 0
        samples = worker.ask(TakeSamples(repeats=3)).stages_ms
        assert {name: len(values) for name, values in samples.items()} == {"forward": 3, "decode": 3}
        assert worker.ask(EncodeColdPrompts()).milliseconds is not None
        assert worker.ask(ReadPeakMemory()).rss_mb > 10
        assert worker.ask(GatherFacts()).gmacs == 2.5


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot pin")
def test_a_worker_stays_on_its_cpu(bundle: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    with Child(job(bundle, "Quick", cpus=(cpu,))) as worker:
        worker.ask(Start())
        assert os.sched_getaffinity(worker.pid) == {cpu}
        assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text().strip() == "1000"


def test_a_closed_worker_is_gone(bundle: Path) -> None:
    with Child(job(bundle, "Quick")) as worker:
        worker.ask(Start())
        pid = worker.pid
    assert not Path(f"/proc/{pid}").exists()


def test_a_worker_whose_benchmark_died_ends(bundle: Path) -> None:
    with Child(job(bundle, "Quick")) as worker:
        worker.ask(Start())
        worker._questions.close()  # as happens when the parent dies
        assert worker._process.wait() == 0


def test_a_worker_that_hangs_is_an_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LONGEST_ANSWER_S", 0.0)
    with Child(job(bundle, "Quick")) as worker, pytest.raises(WorkerError, match="no answer for 0 s"):
        worker.ask(Start())


def test_asking_the_dead_is_an_error_however_often(bundle: Path) -> None:
    with Child(job(bundle, "CannotLoad")) as worker:
        for _ in range(2):
            with pytest.raises(WorkerError, match=r"cannot allocate|ended with code 0"):
                worker.ask(Start())


def test_an_engine_that_does_not_exist_is_an_error(bundle: Path) -> None:
    with Child(job(bundle, "NoSuchEngine")) as worker, pytest.raises(WorkerError, match="AttributeError"):
        worker.ask(Start())


def test_a_question_for_another_worker_is_an_error(bundle: Path) -> None:
    with (
        Child(job(bundle, "Quick")) as worker,
        pytest.raises(WorkerError, match=r"TypeError: .* cannot answer RunRound"),
    ):
        worker.ask(RunRound())
