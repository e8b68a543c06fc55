"""Running the measurements: which process runs when, and for how long."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, TypeVar

from stale_bench.benchmark_backends import BACKENDS, FP32, Backend
from stale_bench.benchmark_inputs import Evaluation
from stale_bench.measuring.child import Child, WorkerError
from stale_bench.measuring.plan import Plan, make_job
from stale_bench.measuring.records import Launch, Record
from stale_bench.protocol import (
    Detect,
    EncodeColdPrompts,
    Facts,
    GatherFacts,
    ReadPeakMemory,
    Samples,
    Start,
    TakeSamples,
    WarmUp,
)
from stale_runtime.detections import Detection
from stale_runtime.evaluation.mean_average_precision import mean_average_precision

COLD_LAUNCHES = 3
"""How many processes of each backend also encode the prompts without a cache, which can take a while."""
TURN_MS = 250.0
"""About how long a backend's turn lasts, unless a single repetition takes longer."""
MOST_REPEATS = 16

T = TypeVar("T")
Say = Callable[[str, float | None], None]
"""Called with what is being done, and with the seconds that are left or None."""


class _Key(NamedTuple):
    """A row of the report."""

    backend: Backend
    length: int


class _Process:
    """A worker that takes turns with others."""

    def __init__(self, key: _Key, child: Child, number: int) -> None:
        """Wait until the backend is loaded."""
        self.key, self.child, self._number = key, child, number
        self._started = child.ask(Start())
        self._warmup_ms: tuple[float, ...] = ()
        self._turns: list[Samples] = []
        self._prompts_cold_ms: float | None = None
        self._peak_rss_mb: float | None = None

    def warm_up(self) -> float:
        """Run until the caches are warm, and return the milliseconds that all steps take together."""
        warm = self.child.ask(WarmUp())
        self._warmup_ms = warm.forward_ms
        return warm.repeat_ms

    def take_turn(self, repeats: int) -> None:
        self._turns.append(self.child.ask(TakeSamples(repeats=repeats)))

    def read_peak_memory(self) -> None:
        self._peak_rss_mb = self.child.ask(ReadPeakMemory()).rss_mb

    def encode_cold_prompts(self) -> None:
        self._prompts_cold_ms = self.child.ask(EncodeColdPrompts()).milliseconds

    def launch(self) -> Launch:
        """What was measured so far."""
        return Launch(
            number=self._number,
            started=self._started,
            warmup_ms=self._warmup_ms,
            turns=tuple(self._turns),
            prompts_cold_ms=self._prompts_cold_ms,
            peak_rss_mb=self._peak_rss_mb,
        )


@dataclass(kw_only=True)
class Benchmark:
    """A plan that is being carried out. Its records can be read at any moment, also after an interruption."""

    plan: Plan
    say: Say

    def __post_init__(self) -> None:
        plan = self.plan
        self._keys = [_Key(backend, length) for length in plan.lengths for backend in plan.backends]
        self._launches: dict[_Key, list[Launch]] = defaultdict(list)
        self._repeats: dict[_Key, int] = {}
        self._facts: dict[_Key, Facts] = {}
        self._maps: dict[_Key, Mapping[str, float]] = {}
        self._fp32_maps: dict[int, float] = {}
        self._errors: dict[_Key, str] = {}
        self._random = random.Random(plan.request.seed)
        self._started = monotonic()
        self._groups_done = 0

    @property
    def records(self) -> list[Record]:
        """One for each backend and length, length by length."""
        return [self._record(key) for key in self._keys]

    def run(self) -> None:
        """Measure until everything is done or the budget is spent."""
        self._started = monotonic()
        budget_s = self.plan.budget_s
        for number in range(self.plan.request.launches):
            for length in self.plan.lengths:
                if number > 0 and budget_s is not None and self._elapsed_s() >= budget_s:
                    return
                self._launch([key for key in self._keys if key.length == length], number)
                self._groups_done += 1

    def _record(self, key: _Key) -> Record:
        found, reference = self._maps.get(key), self._fp32_maps.get(key.length)
        return Record(
            backend=key.backend,
            length=key.length,
            launches=tuple(self._launches[key]),
            repeats=self._repeats.get(key, 1),
            error=self._errors.get(key),
            facts=self._facts.get(key),
            map=found,
            map_change=None if found is None or reference is None else found["average"] - reference,
        )

    def _launch(self, keys: Sequence[_Key], number: int) -> None:
        """Start a process of every backend at one length, and let them take turns."""
        end = monotonic() + self._slice_s()
        where = f"launch {number + 1}, T={keys[0].length}"
        processes: list[_Process] = []
        with ExitStack() as stack:
            stack.callback(self._keep_launches, processes)  # last of all, also when interrupted
            for key in self._shuffled([key for key in keys if key not in self._errors]):
                self._say(f"{where}: starting {key.backend.name}")
                with self._noting_failure(key):
                    child = stack.enter_context(Child(make_job(self.plan, *key, number)))
                    process = _Process(key, child, number)
                    processes.append(process)
                    repeats = int(TURN_MS / process.warm_up())
                    self._repeats.setdefault(key, max(1, min(MOST_REPEATS, repeats)))
            for process in self._take_turns(processes, end, where):
                with self._noting_failure(process.key):
                    self._finish(process, number)
        if number == 0 and self.plan.evaluation is not None:
            self._find_fp32_map(keys[0].length, self.plan.evaluation)

    def _keep_launches(self, processes: Sequence[_Process]) -> None:
        for process in processes:
            self._launches[process.key].append(process.launch())

    def _take_turns(self, processes: Sequence[_Process], end: float, where: str) -> Sequence[_Process]:
        """Give every process its turns, and return those that are still alive."""
        fewest, most = self.plan.request.rounds
        for n in range(most):
            processes = [process for process in processes if process.key not in self._errors]
            if not processes or (n >= fewest and monotonic() >= end):
                break
            self._say(f"{where}: round {n + 1}")
            for process in self._shuffled(processes):
                with self._noting_failure(process.key):
                    process.take_turn(self._repeats[process.key])
        return [process for process in processes if process.key not in self._errors]

    def _finish(self, process: _Process, number: int) -> None:
        """Read the peak memory first, because the other questions raise it."""
        process.read_peak_memory()
        if self.plan.request.cold_prompts and number < COLD_LAUNCHES:
            process.encode_cold_prompts()
        if number == 0:
            key = process.key
            self._facts[key] = process.child.ask(GatherFacts())
            if self.plan.evaluation is not None and key.backend.detects:
                self._maps[key] = self._evaluate(key, process.child, self.plan.evaluation)

    def _evaluate(self, key: _Key, child: Child, evaluation: Evaluation) -> Mapping[str, float]:
        """Compute mAP by tIoU, and ``average``, in [0, 1]."""
        assert self.plan.videos is not None
        found: dict[str, list[Detection]] = {}
        for n, (video, duration_s) in enumerate(evaluation.durations_s.items()):
            count = f"video {n + 1} of {len(evaluation.durations_s)}"
            self._say(f"T={key.length}: mAP of {key.backend.name}, {count}")
            answer = child.ask(Detect(path=str(self.plan.videos.files[video]), duration_s=duration_s))
            found[video] = [Detection(*row) for row in answer.detections]
        result = mean_average_precision(found, evaluation.truth)
        return {"average": result.average, **{f"{tiou:.2f}": value for tiou, value in result.per_tiou.items()}}

    def _find_fp32_map(self, length: int, evaluation: Evaluation) -> None:
        """Look up the mAP of the network in fp32 at a length; measure it if fp32 is not among the backends."""
        maps = {key.backend.name: found for key, found in self._maps.items() if key.length == length}
        if maps and FP32 not in maps and BACKENDS[FP32].problem(self.plan.bundle) is None:
            key = _Key(BACKENDS[FP32], length)
            with self._noting_failure(key), Child(make_job(self.plan, *key, 0)) as child:
                maps[FP32] = self._evaluate(key, child, evaluation)
        if FP32 in maps:
            self._fp32_maps[length] = maps[FP32]["average"]

    @contextmanager
    def _noting_failure(self, key: _Key) -> Iterator[None]:
        """Note a worker's failure for its row, so that the other rows are still measured."""
        try:
            yield
        except WorkerError as problem:
            self._errors.setdefault(key, str(problem))

    def _shuffled(self, items: Sequence[T]) -> list[T]:
        return self._random.sample(items, len(items))

    def _slice_s(self) -> float:
        """Seconds that the next launch at a length may take."""
        if self.plan.budget_s is None:
            return float("inf")
        return max(0.0, self.plan.budget_s - self._elapsed_s()) / self._groups_left()

    def _groups_left(self) -> int:
        return self.plan.request.launches * len(self.plan.lengths) - self._groups_done

    def _elapsed_s(self) -> float:
        return monotonic() - self._started

    def _left_s(self) -> float | None:
        """Estimated seconds until everything is done; None without a budget, before the first launches are done."""
        each = self._elapsed_s() / self._groups_done if self._groups_done else None
        if self.plan.budget_s is None:
            return None if each is None else each * self._groups_left()
        first_launches = len(self.plan.lengths) - self._groups_done  # these run whatever the budget is
        return max(self.plan.budget_s - self._elapsed_s(), (each or 0.0) * first_launches, 0.0)

    def _say(self, text: str) -> None:
        self.say(text, self._left_s())
