import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from stale_bench.measuring.child import WorkerError
from stale_bench.protocol import RoundCost, RunRound, SoakJob
from stale_bench.reporting import tables as report
from stale_bench.soak import soak as soak_module
from stale_bench.soak.soak import FEWEST_VIDEOS, Sample, Soak, SoakPlan, SoakRequest, Turns, prepare_soak, run_soak
from stale_runtime import Detection, Localizer, Prompts, VideoDetections
from stale_runtime.errors import BenchmarkError, MissingPackageError, StaleError
from tests import tiny

EXTRA = Detection("long jump", 0.0, 0.1, 1.0)
CLASSES = Prompts.of(tiny.CLASSES)
MEGABYTE = 2**20


def made(
    *,
    rise_mb: float = 0.0,
    descriptors: int = 8,
    changed: int = 0,
    slower: float = 1.0,
    beside_new: tuple[float, ...] = (),
) -> Soak:
    """Fifty rounds of ten videos, with memory that rises by ``rise_mb`` in each.

    Args:
        rise_mb: megabytes a round.
        descriptors: open after the last round.
        changed: videos with other detections in the last round.
        slower: seconds of the second half over those of the first.
        beside_new: seconds of rounds over those of each new process.
    """
    noise = np.random.default_rng(0).normal(0, 0.1, 50)
    costs = [RoundCost(wall_s=0.5 if n < 25 else 0.5 * slower, cpu_s=0.25, changed=0) for n in range(50)]
    costs[-1] = replace(costs[-1], changed=changed)
    samples = [Sample(cost, 100 + rise_mb * n + noise[n], 8) for n, cost in enumerate(costs)]
    samples[-1] = samples[-1]._replace(descriptors=descriptors)
    turns = tuple(Turns((ratio, 2 * ratio, 3 * ratio), (1.0, 2.0, 3.0)) for ratio in beside_new)
    return Soak(mix=10, descriptors=8, samples=tuple(samples), turns=turns)


@contextmanager
def every_detection(localizer: Localizer, patch: pytest.MonkeyPatch, also: Any) -> Iterator[None]:
    """Do something else as well whenever a file's video is looked at."""
    original = localizer.detect_file

    def detect_file(path: Path, *arguments: Any) -> VideoDetections:
        found = original(path, *arguments)
        other = also(path, found)
        return found if other is None else other  # an empty result is false, and is meant

    with patch.context() as inner:
        inner.setattr(localizer, "detect_file", detect_file)
        yield


@pytest.fixture(scope="module")
def localizer(bundle: Path) -> Localizer:
    return Localizer.open(bundle, length="auto")


def soak(localizer: Localizer, say: Any = lambda _text: None, **options: Any) -> Soak:
    request = SoakRequest(**{"videos": FEWEST_VIDEOS, "new_processes": 0, **options})
    return run_soak(SoakPlan(request=request, localizer=localizer, classes=CLASSES), say)


def test_a_localizer_stays_as_it_was(localizer: Localizer) -> None:
    seen: list[str] = []
    done = soak(localizer, seen.append, videos=600)
    assert (done.videos, done.mix, len(done.samples)) == (600, 30, 20)
    assert seen == [f"{n} of 600 videos" for n in range(30, 601, 30)]
    assert {sample.descriptors for sample in done.samples} == {done.descriptors}
    assert done.changed == 0
    assert done.samples[-1].rss_mb - done.samples[2].rss_mb < 20


def test_a_request_is_opened_as_the_user_asks(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("snooker\n")
    plan = prepare_soak(SoakRequest(bundle=bundle, backend="ort-fp32", length=32, prompts=tmp_path / "p.txt"))
    assert (plan.localizer.backend, plan.localizer.length) == ("ort-fp32", 32)
    assert plan.classes.names == ("snooker",)
    with pytest.raises(StaleError, match="nowhere"):
        prepare_soak(SoakRequest(bundle=tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="199 videos, expected at least 200"):
        SoakRequest(videos=199)


def test_every_round_is_of_the_same_videos(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with every_detection(localizer, monkeypatch, lambda path, _found: seen.append(path.stem)):
        soak(localizer)
    rounds = [seen[n : n + 5] for n in range(0, len(seen), 5)]
    assert len(rounds) == 21
    assert {tuple(sorted(names, key=int)) for names in rounds} == {("0", "2", "4", "6", "8")}
    assert len({tuple(names) for names in rounds}) > 5


def test_a_localizer_that_leaks_is_found(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    def leak(path: Path, _found: VideoDetections) -> None:
        kept.append((np.ones(MEGABYTE // 8), path.open("rb")))

    with every_detection(localizer, monkeypatch, leak):
        problems = soak(localizer).problems()
    for _, file in kept:
        file.close()
    assert len(problems) == 2
    assert problems[0].startswith("memory grows, by at least ")
    assert problems[1] == "105 descriptors were left open"


def test_a_localizer_that_changes_its_mind_is_found(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[Path] = []

    def forget(path: Path, found: VideoDetections) -> VideoDetections:
        times.append(path)
        return replace(found, detections=(*found.detections, EXTRA)) if len(times) == 50 else found

    with every_detection(localizer, monkeypatch, forget):
        problems = soak(localizer).problems()
    assert problems == ["detections differed from those of the first round in 1 of 200 videos"]


def test_what_is_a_problem() -> None:
    assert not made().problems()
    assert not made(rise_mb=-1).problems()
    assert not made(rise_mb=0.01).problems()  # half a megabyte of a hundred
    assert made(rise_mb=0.2).problems()[0].startswith("memory grows, by at least 9.0 MB from 101 MB")
    assert made(descriptors=9).problems() == ["1 descriptors were left open"]
    assert not made(descriptors=7).problems()
    assert made(changed=2).problems() == ["detections differed from those of the first round in 2 of 500 videos"]
    assert not made(slower=2).problems()
    assert not made(beside_new=(0.9, 1.0, 1.0, 1.1)).problems()
    assert not made(beside_new=(1.04, 1.04, 1.04)).problems()
    assert not made(beside_new=(1.5, 1.5)).problems()  # too few to be sure
    assert made(beside_new=(1.25, 1.25, 1.25)).problems() == [
        "it slows down: at least 20% slower than a process that has just started"
    ]


def test_the_table_says_what_was_measured() -> None:
    lines = report.soak_table(made(rise_mb=0.2, slower=1.25), "simple").splitlines()
    cells = {line[:21].strip(): line[21:].split() for line in lines[2:5]}
    assert cells["videos a second"] == ["20.0", "16.0", "-20.0%"]
    assert cells["videos a CPU second"] == ["40.0", "40.0", "+0.0%"]
    assert cells["resident memory, MB"][2] == "+9.1%"
    assert lines[6] == "500 videos of 16 to 3,000 snippets in 50 rounds of 10."
    slope, low, high = (float(lines[7].split()[n].rstrip(".")) for n in (5, 12, 14))
    assert low < 20_000 < high
    assert low < slope < high
    assert lines[8] == "Open descriptors: 8 before, 8 after. Videos with other detections than in the first round: 0."
    assert len(lines) == 9


def test_the_table_says_how_it_stands_beside_new_processes() -> None:
    def last(*ratios: float) -> str:
        return report.soak_table(made(beside_new=ratios), "simple").splitlines()[-1]

    assert last(1.25) == "Speed at the end, compared in turns with 1 new processes: -20.0%."
    equal = "Speed at the end, compared in turns with 3 new processes: +25.0%, 99% interval +25.0% to +25.0%."
    assert last(0.8, 0.8, 0.8) == equal


class FakeChild:
    """A new process whose rounds take a second by its own account; the order of all rounds is noted."""

    order: list[str]

    def __init__(self, job: SoakJob) -> None:
        assert job.videos == 10

    def __enter__(self) -> "FakeChild":
        return self

    def __exit__(self, *_: object) -> None:
        self.order.append("end")

    def ask(self, question: RunRound) -> RoundCost:
        assert question == RunRound()
        self.order.append("new")
        return RoundCost(wall_s=1.0, cpu_s=1.0, changed=0)


class FakeRounds:
    """Rounds of this process that take 1.25 s by their own account."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        """Takes what ``Rounds`` takes."""

    def run(self) -> RoundCost:
        FakeChild.order.append("old")
        return RoundCost(wall_s=1.25, cpu_s=1.0, changed=0)


def test_a_localizer_that_slows_down_is_found(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_module, "Child", FakeChild)
    monkeypatch.setattr(soak_module, "Rounds", FakeRounds)
    monkeypatch.setattr(FakeChild, "order", [], raising=False)
    seen: list[str] = []
    done = soak(localizer, seen.append, new_processes=3)
    assert done.turns == (Turns(old=(1.25,) * 4, new=(1.0,) * 4),) * 3
    assert any(problem.startswith("it slows down: at least 20% slower") for problem in done.problems())
    assert seen[-3:] == [f"compared with new process {n} of 3" for n in (1, 2, 3)]
    compared = FakeChild.order[20:]
    new_first = ["new", "new", "old", "old", "new", "new", "old", "old", "new", "end"]  # the first is a warm-up
    old_first = ["new", "old", "new", "new", "old", "old", "new", "new", "old", "end"]
    assert compared == [*new_first, *old_first, *new_first]


def test_a_new_process_is_compared_with(localizer: Localizer) -> None:
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    (turns,) = soak(localizer, new_processes=1).turns
    assert len(turns.old) == len(turns.new) == soak_module.TURNS
    assert affinity is None or os.sched_getaffinity(0) == affinity


def test_a_new_process_that_fails_is_said(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_child: FakeChild, _question: RunRound) -> RoundCost:
        raise WorkerError("killed by SIGKILL")

    monkeypatch.setattr(soak_module, "Child", FakeChild)
    monkeypatch.setattr(FakeChild, "order", [], raising=False)
    monkeypatch.setattr(FakeChild, "ask", fail)
    with pytest.raises(BenchmarkError, match=r"^a new process: killed by SIGKILL$"):
        soak(localizer, new_processes=1)


def test_a_system_that_does_not_say_is_a_benchmark_error(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_process: psutil.Process) -> int:
        raise psutil.AccessDenied(pid=1)

    monkeypatch.setattr(psutil.Process, "num_fds", refuse)
    with pytest.raises(BenchmarkError, match=r"does not report the memory and open files of a process: .*pid=1"):
        soak(localizer)


def test_a_machine_without_psutil_is_told_what_to_install(
    localizer: Localizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(MissingPackageError, match=r"a soak needs psutil, .* pip install 'stale-edge\[bench\]'"):
        soak(localizer)
