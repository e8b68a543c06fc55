"""Running one localizer over very many videos: do memory, open files, speed and detections stay the same?"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

from stale_bench.benchmark_inputs import read_classes
from stale_bench.measuring.child import Child, WorkerError
from stale_bench.measuring.machine import choose_cpus
from stale_bench.protocol import RoundCost, RunRound, SoakJob
from stale_bench.soak.rounds import Rounds
from stale_bench.statistics.intervals import Interval, ratio_interval
from stale_bench.statistics.trend import Trend, trend
from stale_runtime.bundle.bundle import Bundle, find_bundle
from stale_runtime.errors import BenchmarkError, MissingPackageError
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inference.settings import Settings
from stale_runtime.inputs.prompts import Prompts
from stale_runtime.system.workspace import workspace

MIX = 200
"""Most videos in a round."""
FEWEST_ROUNDS = 20
FEWEST_VIDEOS = 10 * FEWEST_ROUNDS
GROWTH = 0.02
"""Largest share by which resident memory may grow after the first tenth."""
SLOWDOWN = 0.05
"""Largest share of its speed that the process may lose, compared with new ones."""
NEW_PROCESSES, TURNS = 5, 4
"""New processes that the old one is compared with at its end, and rounds of each."""


@dataclass(frozen=True, kw_only=True)
class SoakRequest:
    """What a user asks for in a soak."""

    videos: int = 20_000
    """At least ``FEWEST_VIDEOS``; rounded up to whole rounds."""
    backend: str | None = None
    """One of ``LOCALIZER_BACKENDS``; None for what the bundle is deployed with."""
    length: int | Literal["auto"] = "auto"
    """T in snippets, or ``auto``."""
    bundle: Path | None = None
    """None to look where ``find_bundle`` does."""
    threads: int = 1
    """Threads that an operator may use."""
    prompts: Path | None = None
    """File of class names; None for those whose embeddings are in the bundle."""
    seed: int = 0
    """Seed of features and orders."""
    new_processes: int = NEW_PROCESSES
    """New processes to compare with at the end; from three on there is an interval."""

    def __post_init__(self) -> None:
        if self.videos < FEWEST_VIDEOS:
            raise ValueError(f"{self.videos} videos, expected at least {FEWEST_VIDEOS}")

    @property
    def mix(self) -> int:
        """Videos in a round."""
        return min(MIX, self.videos // FEWEST_ROUNDS)

    @property
    def rounds(self) -> int:
        """Rounds that count."""
        return -(-self.videos // self.mix)


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """A request, with its bundle and its prompts opened."""

    request: SoakRequest
    localizer: Localizer
    classes: Prompts


class Sample(NamedTuple):
    """A round through all videos, and the memory and the open descriptors of the process after it."""

    cost: RoundCost
    rss_mb: float
    descriptors: int


class Turns(NamedTuple):
    """Seconds of each round of two processes that took turns."""

    old: tuple[float, ...]
    """Of the process that has been running since the start."""
    new: tuple[float, ...]


class FirstAndLast(NamedTuple):
    """A figure of the first and of the last tenth of the rounds."""

    first: float
    last: float

    @property
    def ratio(self) -> float:
        """Last over first."""
        return self.last / self.first


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What a soak measured."""

    mix: int
    """Videos in a round."""
    descriptors: int
    """Descriptors that were open before the first round."""
    samples: tuple[Sample, ...]
    """One for each round, in order."""
    turns: tuple[Turns, ...] = ()
    """One for each new process that was compared with this one at its end."""

    @property
    def videos(self) -> int:
        """Videos of all rounds."""
        return self.mix * len(self.samples)

    @property
    def changed(self) -> int:
        """Videos whose detections differed from those of the first round, summed over all rounds."""
        return sum(sample.cost.changed for sample in self.samples)

    def memory_trend(self) -> Trend:
        """Resident memory over videos after the first tenth, in megabytes a video."""
        warm = len(self.samples) // 10
        at = [self.mix * n for n in range(warm, len(self.samples))]
        return trend(at, [sample.rss_mb for sample in self.samples[warm:]])

    def throughput(self, clock: Callable[[RoundCost], float]) -> FirstAndLast:
        """Videos a second, by the median round of a tenth.

        Args:
            clock: the seconds that count, wall or CPU.
        """
        tenth = max(len(self.samples) // 10, 1)
        first, last = ([clock(s.cost) for s in part] for part in (self.samples[:tenth], self.samples[-tenth:]))
        return FirstAndLast(self.mix / median(first), self.mix / median(last))

    def speed_beside_new(self) -> Interval | None:
        """Speed of this process at its end over that of new ones, measured in turns; None if there were none.

        The first and the last rounds cannot be compared for this: other programs change the speed of a machine by more
        than a process loses in a day.
        """
        if not self.turns:
            return None
        return ratio_interval([turns.new for turns in self.turns], [turns.old for turns in self.turns])

    def problems(self) -> list[str]:
        """What did not stay the same. Speed is judged by the comparison with new processes only."""
        found = []
        warm, last = self.samples[len(self.samples) // 10], self.samples[-1]
        growth = self.memory_trend().low * 0.9 * self.videos
        if growth > GROWTH * warm.rss_mb:
            found.append(f"memory grows, by at least {growth:.1f} MB from {warm.rss_mb:.0f} MB after the first tenth")
        if last.descriptors > self.descriptors:
            found.append(f"{last.descriptors - self.descriptors} descriptors were left open")
        if self.changed:
            found.append(f"detections differed from those of the first round in {self.changed} of {self.videos} videos")
        speed = self.speed_beside_new()
        if speed is not None and speed.high is not None and speed.high < 1 - SLOWDOWN:
            found.append(f"it slows down: at least {1 - speed.high:.0%} slower than a process that has just started")
        return found


def prepare_soak(request: SoakRequest) -> SoakPlan:
    """Open the bundle and the prompts that a request names.

    Raises:
        StaleError: bundle or prompts cannot be used.
    """
    settings = Settings(backend=request.backend, length=request.length, threads=request.threads)
    localizer = Localizer(Bundle(find_bundle(request.bundle)), settings)
    return SoakPlan(request=request, localizer=localizer, classes=read_classes(localizer.bundle, request.prompts))


def run_soak(plan: SoakPlan, say: Callable[[str], None]) -> Soak:
    """Detect in very many videos with one localizer, half of them read from files.

    Each round goes through the same videos in another order, so that rounds can be compared. At the end the process is
    compared with new ones, in turns on the same CPUs.

    Args:
        plan: what to do.
        say: called after each round with how far the soak is.

    Raises:
        BenchmarkError: psutil is not installed, the system does not report a process's memory, or a new process failed.
        StaleError: bundle or prompts cannot be used.
    """
    request, mix = plan.request, plan.request.mix
    with workspace() as folder:
        ours, theirs = folder / "ours", folder / "theirs"
        ours.mkdir()
        theirs.mkdir()
        _, descriptors = _measure_resources()
        rounds = Rounds(plan.localizer, plan.classes, videos=mix, seed=request.seed, folder=ours)
        samples = []
        for n in range(request.rounds):
            samples.append(Sample(rounds.run(), *_measure_resources()))
            say(f"{(n + 1) * mix:,} of {request.rounds * mix:,} videos")
        turns = []
        cpus = choose_cpus(plan.localizer.threads)
        with _kept_on(cpus):
            for number in range(request.new_processes):
                turns.append(_take_turns(rounds, make_soak_job(plan, theirs, cpus), number))
                say(f"compared with new process {len(turns)} of {request.new_processes}")
    return Soak(mix=mix, descriptors=descriptors, samples=tuple(samples), turns=tuple(turns))


def make_soak_job(plan: SoakPlan, folder: Path, cpus: tuple[int, ...]) -> SoakJob:
    """The job of a worker that goes through the rounds of a soak, writing its feature files to a folder."""
    localizer = plan.localizer
    cache_folder = localizer.settings.cache_folder
    return SoakJob(
        bundle=str(localizer.bundle.path.absolute()),
        sha256=localizer.bundle.manifest_sha256,
        backend=localizer.backend,
        length=localizer.length,
        decoder=localizer.decoder,
        classes=plan.classes.names,
        threads=localizer.threads,
        cpus=cpus,
        cache_folder=os.path.abspath(cache_folder) if cache_folder is not None else None,
        cache=localizer.settings.cache,
        videos=plan.request.mix,
        seed=plan.request.seed,
        folder=str(folder),
    )


def _take_turns(rounds: Rounds, job: SoakJob, number: int) -> Turns:
    """Go through rounds in this process and in the new process of a number; which one begins alternates."""
    old, new = [], []
    try:
        with Child(job) as child:
            child.ask(RunRound())  # a warm-up
            for turn in range(TURNS):
                if (number + turn) % 2:
                    old.append(rounds.run())
                    new.append(child.ask(RunRound()))
                else:
                    new.append(child.ask(RunRound()))
                    old.append(rounds.run())
    except WorkerError as problem:
        raise BenchmarkError(f"a new process: {problem}") from problem
    return Turns(tuple(cost.wall_s for cost in old), tuple(cost.wall_s for cost in new))


@contextmanager
def _kept_on(cpus: Sequence[int]) -> Iterator[None]:
    """Keep this thread on some CPUs; an empty sequence changes nothing."""
    if not cpus:
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _measure_resources() -> tuple[float, int]:
    """Resident memory of this process in megabytes, and the number of its open descriptors."""
    try:
        import psutil
    except ModuleNotFoundError as problem:
        raise MissingPackageError.for_extra("a soak needs psutil", "bench") from problem
    try:
        process = psutil.Process()
        return process.memory_info().rss / 1e6, process.num_fds()
    except (psutil.Error, OSError) as problem:
        raise BenchmarkError(
            f"this system does not report the memory and open files of a process: {problem}"
        ) from problem
