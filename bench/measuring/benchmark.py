"""The measuring itself: who runs when, and for how long."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from stale_bench.benchmark_backends import BACKENDS, Backend
from stale_bench.benchmark_inputs import Evaluation
from stale_bench.measuring.child import Child, WorkerError
from stale_bench.measuring.records import Launch, Record
from stale_bench.protocol import Job
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.detections import Detection
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from stale_runtime.inputs.videos import video_id

FP32 = "ort-fp32"
"""The backend that others' mAP is compared with."""
COLD_LAUNCHES = 3
"""Processes that encode the prompts without knowing any; the text tower can take a while."""
TURN_MS = 250.0
"""About as long as a backend's turn lasts, unless a single repetition takes longer."""
MOST_REPEATS = 16

T = TypeVar("T")
Say = Callable[[str, float | None], None]
"""Told what is being done, and the seconds still needed as far as they are known."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, and how thoroughly."""

    backends: tuple[Backend, ...]
    lengths: tuple[int, ...]
    """T in snippets."""
    bundle: Bundle
    classes: tuple[str, ...]
    """K class names."""
    cache: Path
    """Folder of a prompt cache, in which all classes are."""
    threads: int = 1
    """Threads an operator may use."""
    cpus: tuple[int, ...] = ()
    """CPUs that workers stay on; empty where the system cannot pin."""
    files: tuple[Path, ...] = ()
    """Feature files to time on; empty for random features."""
    evaluation: Evaluation | None = None
    """What to compute mAP on, if anything."""
    budget_s: float | None = None
    """Seconds for all of it; None for as long as it takes. Every row gets one launch, however small the budget."""
    launches: int = 8
    """Processes that are started, at most, for each backend and length."""
    rounds: tuple[int, int] = (2, 30)
    """Turns that a process gets, at least and at most."""
    seed: int = 0
    """Of random features, random weights, the choice of files and the order of turns."""
    cold_prompts: bool = True
    """Whether to time the encoding of prompts that nothing is known of."""

    def __post_init__(self) -> None:
        if not self.backends or not self.lengths:
            raise ValueError("no backend or no length, expected at least one of each")
        if self.launches < 1 or not 1 <= self.rounds[0] <= self.rounds[1]:
            raise ValueError(f"{self.launches} launches, rounds {self.rounds}, expected at least 1 of each")
        if self.budget_s is not None and not self.budget_s > 0:
            raise ValueError(f"budget_s {self.budget_s}, expected a positive number of seconds")


class _Member(NamedTuple):
    """A process that is taking turns."""

    record: Record
    launch: Launch
    child: Child


@dataclass(kw_only=True)
class Benchmark:
    """A plan under way. Its records can be reported at any moment, also after an interruption."""

    plan: Plan
    say: Say
    records: list[Record] = field(init=False)
    """One for each backend and length, length by length."""

    def __post_init__(self) -> None:
        plan = self.plan
        self.records = [Record(backend=b, length=length) for length in plan.lengths for b in plan.backends]
        self._random = random.Random(plan.seed)
        self._files = random.Random(plan.seed).sample(plan.files, len(plan.files))
        self._started = time.monotonic()
        self._groups_done = 0

    def run(self) -> None:
        """Measure until all is done or the budget is spent."""
        self._started = time.monotonic()
        for number in range(self.plan.launches):
            for length in self.plan.lengths:
                if number > 0 and self.plan.budget_s is not None and self._elapsed_s() >= self.plan.budget_s:
                    return
                self._launch([record for record in self.records if record.length == length], number)
                self._groups_done += 1

    def _launch(self, records: Sequence[Record], number: int) -> None:
        """Start a process of every backend at one length, and let them take turns."""
        end = time.monotonic() + self._slice_s()
        where = f"launch {number + 1}, T={records[0].length}"
        members: list[_Member] = []
        with ExitStack() as stack:
            for record in self._shuffled([record for record in records if record.error is None]):
                self._say(f"{where}: starting {record.backend.name}")
                with _noting_failure(record):
                    child = stack.enter_context(Child(self._job(record.backend, record.length, number)))
                    members.append(_Member(record, self._start(record, child, number), child))
            for member in self._take_turns(members, end, where):
                with _noting_failure(member.record):
                    self._finish(member)
        if number == 0 and self.plan.evaluation is not None:
            self._compare_map(records, self.plan.evaluation)

    def _start(self, record: Record, child: Child, number: int) -> Launch:
        launch = Launch(number=number, **child.ask("start"))
        record.launches.append(launch)
        warm = child.ask("warm")
        launch.warmup_ms = warm["warmup_ms"]
        if number == 0:
            record.repeats = max(1, min(MOST_REPEATS, int(TURN_MS / warm["repeat_ms"])))
        return launch

    def _take_turns(self, members: list[_Member], end: float, where: str) -> list[_Member]:
        """Give every process its rounds, and return those that live."""
        fewest, most = self.plan.rounds
        for n in range(most):
            if not members or (n >= fewest and time.monotonic() >= end):
                break
            self._say(f"{where}: round {n + 1}")
            for record, launch, child in self._shuffled(members):
                with _noting_failure(record):
                    launch.rounds.append(child.ask("sample", repeats=record.repeats)["samples"])
            members = [member for member in members if member.record.error is None]
        return members

    def _finish(self, member: _Member) -> None:
        """Read the memory, and then do what would have disturbed it or the clock."""
        record, launch, child = member
        launch.peak_rss_mb = child.ask("memory")["peak_rss_mb"]
        if self.plan.cold_prompts and launch.number < COLD_LAUNCHES:
            launch.startup |= child.ask("cold")
        if launch.number == 0:
            for name, value in child.ask("facts").items():
                setattr(record, name, value)
            if self.plan.evaluation is not None and record.backend.detects:
                record.map = self._map(record, child, self.plan.evaluation)

    def _map(self, record: Record, child: Child, evaluation: Evaluation) -> dict[str, float]:
        """By tIoU and ``average``, in [0, 1]."""
        found: dict[str, list[Detection]] = {}
        for n, (path, duration_s) in enumerate(evaluation.videos.items()):
            self._say(f"T={record.length}: mAP of {record.backend.name}, video {n + 1} of {len(evaluation.videos)}")
            rows = child.ask("detect", path=str(path), duration_s=duration_s)["detections"]
            found[video_id(path.stem)] = [Detection(*row) for row in rows]
        result = mean_average_precision(found, evaluation.truth)
        return {"average": result.average, **{f"{tiou:.2f}": value for tiou, value in result.per_tiou.items()}}

    def _compare_map(self, records: Sequence[Record], evaluation: Evaluation) -> None:
        """Say of every mAP at a length how far it is from that of the network in fp32."""
        found = [record for record in records if record.map is not None]
        reference = next((record for record in found if record.backend.name == FP32), None)
        if reference is None and found and BACKENDS[FP32].problem(self.plan.bundle) is None:
            reference = Record(backend=BACKENDS[FP32], length=records[0].length)
            with _noting_failure(reference), Child(self._job(reference.backend, reference.length, 0)) as child:
                reference.map = self._map(reference, child, evaluation)
        if reference is not None and reference.map is not None:
            for record in found:
                assert record.map is not None
                record.map_change = record.map["average"] - reference.map["average"]

    def _job(self, backend: Backend, length: int, number: int) -> Job:
        plan, files = self.plan, self._files
        return Job(
            backend=backend.name,
            engine=backend.engine,
            bundle=str(plan.bundle.path),
            length=length,
            classes=plan.classes,
            threads=plan.threads,
            cpus=plan.cpus,
            seed=plan.seed + number,
            features=str(files[number % len(files)]) if files else None,
            cache=str(plan.cache),
        )

    def _shuffled(self, items: Sequence[T]) -> list[T]:
        return self._random.sample(items, len(items))

    def _slice_s(self) -> float:
        """Seconds that the next launch at a length may take."""
        if self.plan.budget_s is None:
            return float("inf")
        return max(0.0, self.plan.budget_s - self._elapsed_s()) / self._groups_left()

    def _groups_left(self) -> int:
        return self.plan.launches * len(self.plan.lengths) - self._groups_done

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def _left_s(self) -> float | None:
        each = self._elapsed_s() / self._groups_done if self._groups_done else None
        if self.plan.budget_s is None:
            return None if each is None else each * self._groups_left()
        first_launches = len(self.plan.lengths) - self._groups_done  # these are made whatever the budget says
        return max(self.plan.budget_s - self._elapsed_s(), (each or 0.0) * first_launches, 0.0)

    def _say(self, text: str) -> None:
        self.say(text, self._left_s())


@contextmanager
def _noting_failure(record: Record) -> Iterator[None]:
    """Write a worker's failure into its record, so that the others go on."""
    try:
        yield
    except WorkerError as problem:
        record.error = str(problem)
