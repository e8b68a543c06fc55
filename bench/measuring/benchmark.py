"""Running the measurements: which process runs when, and for how long."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from math import isnan
from time import monotonic
from typing import TypeAlias, TypeVar

from stale_bench.benchmark_backends import BACKENDS, FP32
from stale_bench.benchmark_inputs import Evaluation, MeasuredVideos
from stale_bench.footage import join_detections
from stale_bench.measuring.child import Child, WorkerError
from stale_bench.measuring.plan import BenchmarkCase, Key, Plan, make_export_job, make_job, make_peak_job
from stale_bench.measuring.records import EvaluatedMap, Launch, Record
from stale_bench.protocol import (
    Detect,
    EncodeColdPrompts,
    Export,
    Facts,
    GatherFacts,
    MeasurePeak,
    ReadPeakMemory,
    Samples,
    Start,
    TakeSamples,
    WarmUp,
)
from stale_bench.statistics.map_difference import MapDifference
from stale_runtime.detections import Detection
from stale_runtime.evaluation.map_change import resampled_maps
from stale_runtime.evaluation.mean_average_precision import mean_average_precision

COLD_LAUNCHES = 3
"""How many processes of each backend also encode the prompts without a cache, which can take a while."""
TURN_MS = 250.0
"""About how long a backend's turn lasts, unless a single repetition takes longer."""
MOST_REPEATS = 16

T = TypeVar("T")
_Found: TypeAlias = Mapping[str, Sequence[Detection]]
"""Detections by video id."""
Say = Callable[[str, float | None], None]
"""Called with what is being done, and with the seconds that are left or None."""


class _Process:
    """A worker that takes turns with others."""

    def __init__(self, key: Key, child: Child, number: int) -> None:
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
        self._warmup_ms = warm.main_ms
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
        self.peak_gmacs_per_s: Mapping[str, float] | None = None
        self._groups = plan.groups
        self._launches: dict[Key, list[Launch]] = defaultdict(list)
        self._repeats: dict[Key, int] = {}
        self._facts: dict[Key, Facts] = {}
        self._maps: dict[Key, EvaluatedMap] = {}
        self._recomputed: dict[Key, int] = {}
        self._found_alone: dict[str, _Found] = {}
        self._maps_alone: dict[str, Mapping[str, float]] = {}
        self._alone_as_joined: dict[tuple[str, int], EvaluatedMap] = {}
        self._fp32_maps: dict[BenchmarkCase, EvaluatedMap] = {}
        self._errors: dict[Key, str] = {}
        self._random = random.Random(plan.request.seed)
        self._started = monotonic()
        self._groups_done = 0

    @property
    def records(self) -> list[Record]:
        """One for each row of the report, group by group."""
        return [self._record(key) for keys in self._groups for key in keys]

    def run(self) -> None:
        """Measure until everything is done or the budget is spent."""
        self._started = monotonic()
        budget_s = self.plan.budget_s
        self._measure_peak()
        for number in range(self.plan.request.launches):
            for keys in self._groups:
                if number > 0 and budget_s is not None and self._elapsed_s() >= budget_s:
                    return
                self._launch(keys, number)
                self._groups_done += 1

    def _record(self, key: Key) -> Record:
        backend, case = key
        found = self._maps.get(key)
        alone = None if case.snippets is None else self._alone_as_joined.get((backend.name, case.snippets))
        return Record(
            backend=backend,
            case=case,
            launches=tuple(self._launches[key]),
            repeats=self._repeats.get(key, 1),
            error=self._errors.get(key),
            facts=self._facts.get(key),
            evaluated=found,
            recomputed=self._recomputed.get(key),
            map_change=_difference(found, self._fp32_maps.get(case)),
            length_change=_difference(found, self._at_first_length(key)),
            alone_change=_difference(found, alone),
            map_alone=self._maps_alone.get(backend.name) if case.snippets is not None else None,
            video_snippets=self._video_snippets(key),
        )

    def _at_first_length(self, key: Key) -> EvaluatedMap | None:
        """The mAP of the same backend at the first length; None at that length, and for videos of given snippets."""
        first = BenchmarkCase(self.plan.lengths[0])
        return None if key.case == first or key.case.snippets is not None else self._maps.get(Key(key.backend, first))

    def _video_snippets(self, key: Key) -> tuple[int, ...]:
        if key.case.snippets is None:
            return ()
        footage = self.plan.footage[key.case.snippets]
        videos = (footage.timed_video(launch.number) for launch in self._launches[key])
        return tuple(footage.videos.snippets[video] for video in videos)

    def _measure_peak(self) -> None:
        request = self.plan.request
        if request.peak and not request.snippets and request.device == "cpu" and find_spec("onnx") is not None:
            self._say("measuring how fast this machine multiplies")
            with suppress(WorkerError), Child(make_peak_job(self.plan)) as child:
                self.peak_gmacs_per_s = child.ask(MeasurePeak()).gmacs_per_s

    def _export(self, keys: Sequence[Key]) -> None:
        """Make the files of the backends that need one, one after the other."""
        for key in keys:
            if (job := make_export_job(self.plan, *key)) is not None:
                self._say(f"T={job.length}: exporting {job.backend}")
                with self._noting_failure(key), Child(job) as child:
                    child.ask(Export())

    def _launch(self, keys: Sequence[Key], number: int) -> None:
        """Start a process for every row of a group, and let them take turns."""
        if number == 0:
            self._export(keys)
        end = monotonic() + self._slice_s()
        length, snippets, _ = keys[0].case
        where = f"launch {number + 1}, " + (f"T={length}" if snippets is None else f"{snippets:,} snippets")
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
            self._find_fp32_maps(keys)

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
        key, child = process.key, process.child
        if key.case.snippets is None:
            if self.plan.request.cold_prompts and number < COLD_LAUNCHES:
                process.encode_cold_prompts()
            if number == 0:
                self._facts[key] = child.ask(GatherFacts())
        if number == 0 and key.backend.detects:
            self._find_maps(key, child)

    def _find_maps(self, key: Key, child: Child) -> None:
        """Compute the mAP of a row; and once for each backend that of the joined videos, each alone, as by default."""
        plan, (_, snippets, mode) = self.plan, key.case
        if plan.evaluation is None or plan.videos is None:
            return
        if snippets is None:
            self._maps[key] = _evaluate(self._find(key, child, plan.videos, plan.evaluation), plan.evaluation)
            return
        footage = plan.footage[snippets]
        assert footage.evaluation is not None
        self._maps[key] = _evaluate(self._find(key, child, footage.videos, footage.evaluation), footage.evaluation)
        if mode != "windows":
            return
        name = key.backend.name
        if name not in self._found_alone:
            self._found_alone[name] = self._find(key, child, plan.videos, plan.evaluation)
            self._maps_alone[name] = _evaluate(self._found_alone[name], plan.evaluation).by_tiou
        joined = join_detections(self._found_alone[name], footage.pieces, plan.videos.snippets, plan.evaluation)
        self._alone_as_joined[name, snippets] = _evaluate(joined, footage.evaluation)

    def _find(self, key: Key, child: Child, videos: MeasuredVideos, evaluation: Evaluation) -> _Found:
        """The detections of each video; counts for the row those that were computed exactly, at its first call."""
        length, snippets, mode = key.case
        where = f"T={length}" if snippets is None else f"{snippets:,} snippets, {mode}"
        found: dict[str, list[Detection]] = {}
        recomputed: list[bool] = []
        for n, (video, duration_s) in enumerate(evaluation.durations_s.items()):
            count = f"video {n + 1} of {len(evaluation.durations_s)}"
            self._say(f"{where}: mAP of {key.backend.name}, {count}")
            answer = child.ask(Detect(path=str(videos.files[video]), duration_s=duration_s))
            found[video] = [Detection(*row) for row in answer.detections]
            if answer.recomputed is not None:
                recomputed.append(answer.recomputed)
        if recomputed:
            self._recomputed.setdefault(key, sum(recomputed))
        return found

    def _find_fp32_maps(self, keys: Sequence[Key]) -> None:
        """Look up the mAP of the network in fp32 in the cases of a group.

        If fp32 is not among the backends, it is measured, unless that would take long because videos are joined.
        """
        for case in dict.fromkeys(key.case for key in keys if key in self._maps):
            fp32 = Key(next((key.backend for key in keys if key.backend.name == FP32), BACKENDS[FP32]), case)
            if fp32 not in self._maps and case.snippets is None and fp32.backend.problem(self.plan.bundle) is None:
                with self._noting_failure(fp32), Child(make_job(self.plan, *fp32, 0)) as child:
                    self._find_maps(fp32, child)
            if fp32 in self._maps:
                self._fp32_maps[case] = self._maps[fp32]

    @contextmanager
    def _noting_failure(self, key: Key) -> Iterator[None]:
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
        return self.plan.request.launches * len(self._groups) - self._groups_done

    def _elapsed_s(self) -> float:
        return monotonic() - self._started

    def _left_s(self) -> float | None:
        """Estimated seconds until everything is done; None without a budget, before the first launches are done."""
        each = self._elapsed_s() / self._groups_done if self._groups_done else None
        if self.plan.budget_s is None:
            return None if each is None else each * self._groups_left()
        first_launches = len(self._groups) - self._groups_done  # these run whatever the budget is
        return max(self.plan.budget_s - self._elapsed_s(), (each or 0.0) * first_launches, 0.0)

    def _say(self, text: str) -> None:
        self.say(text, self._left_s())


def _evaluate(found: _Found, evaluation: Evaluation) -> EvaluatedMap:
    """Compute mAP by tIoU, and ``average``, and over each resample of the videos."""
    result = mean_average_precision(found, evaluation.truth)
    resamples = resampled_maps(found, evaluation.truth).round(5).tolist()
    return EvaluatedMap(
        by_tiou={"average": result.average, **{f"{tiou:.2f}": value for tiou, value in result.per_tiou.items()}},
        resamples=tuple(None if isnan(value) else value for value in resamples),
    )


def _difference(found: EvaluatedMap | None, reference: EvaluatedMap | None) -> MapDifference | None:
    return None if found is None or reference is None else found.difference_from(reference)
