"""One localizer over very many videos: whether memory, open files, speed and detections stay as they were."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from stale_bench.measuring.machine import choose_cpus
from stale_bench.measuring.process_memory import open_descriptors, rss_mb
from stale_bench.soak.rounds import Beginning, NewProcess, Rounds, kept_on
from stale_bench.statistics.intervals import Interval, ratio_interval
from stale_bench.statistics.trend import Trend, trend
from stale_runtime.errors import BenchmarkError
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inputs.prompts import Prompts
from stale_runtime.system.workspace import workspace

MIX = 200
"""Videos that are drawn. They come round again and again, each time in another order."""
FEWEST_ROUNDS = 20
FEWEST_VIDEOS = 10 * FEWEST_ROUNDS
GROWTH = 0.02
"""Most that resident memory may grow after the warm-up, as a share of itself."""
SLOWDOWN = 0.05
"""Most of its speed that a process may lose, against one that has only just begun."""
NEW_PROCESSES, TURNS = 5, 4
"""How often a new one is held against it, and in how many rounds."""


class Sample(NamedTuple):
    """What a round through all videos of the mix cost, and what the process held after it."""

    wall_s: float
    cpu_s: float
    changed: int
    """Videos whose detections were not those of the first time."""
    rss_mb: float
    descriptors: int


class Turns(NamedTuple):
    """Seconds of rounds that two processes went through in turns."""

    old: tuple[float, ...]
    """Of the one that had run for long."""
    new: tuple[float, ...]


class Change(NamedTuple):
    """A figure of the first and of the last tenth of the rounds."""

    first: float
    last: float

    @property
    def ratio(self) -> float:
        """Last over first."""
        return self.last / self.first


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What a long run showed."""

    mix: int
    """Videos in a round."""
    descriptors: int
    """Open before the first round."""
    samples: tuple[Sample, ...]
    """One for each round, in order."""
    turns: tuple[Turns, ...] = ()
    """One for each new process that this one was held against at its end."""

    @property
    def videos(self) -> int:
        """Seen in all."""
        return self.mix * len(self.samples)

    @property
    def changed(self) -> int:
        """Videos whose detections were not those of the first time, over all rounds."""
        return sum(sample.changed for sample in self.samples)

    def memory_trend(self) -> Trend:
        """Resident memory by video once the first tenth is over, in megabytes a video."""
        warm = len(self.samples) // 10
        at = [self.mix * n for n in range(warm, len(self.samples))]
        return trend(at, [sample.rss_mb for sample in self.samples[warm:]])

    def throughput(self, clock: Callable[[Sample], float]) -> Change:
        """Videos a second, by the median round of a tenth.

        Args:
            clock: the seconds that count, wall or CPU.
        """
        tenth = max(len(self.samples) // 10, 1)
        first, last = ([clock(sample) for sample in part] for part in (self.samples[:tenth], self.samples[-tenth:]))
        return Change(self.mix / median(first), self.mix / median(last))

    def speed_beside_new(self) -> Interval | None:
        """Speed of this process at its end over that of new ones, measured in turns; None if there were none.

        What else a machine does changes its speed by more than a process loses in a day, so that the first and the
        last rounds cannot tell.
        """
        if not self.turns:
            return None
        return ratio_interval([turns.new for turns in self.turns], [turns.old for turns in self.turns])

    def problems(self) -> list[str]:
        """What did not stay as it was. Speed is judged beside new processes only."""
        found = []
        warm, last = self.samples[len(self.samples) // 10], self.samples[-1]
        growth = self.memory_trend().low * 0.9 * self.videos
        if growth > GROWTH * warm.rss_mb:
            found.append(f"memory grows, by {growth:.1f} MB at least over a warm process's {warm.rss_mb:.0f}")
        if last.descriptors > self.descriptors:
            found.append(f"{last.descriptors - self.descriptors} descriptors were left open")
        if self.changed:
            found.append(f"{self.changed} of {self.videos} videos had other detections than the first time")
        speed = self.speed_beside_new()
        if speed is not None and speed.high is not None and speed.high < 1 - SLOWDOWN:
            found.append(f"it slows down: {1 - speed.high:.0%} slower at least than a process that has only just begun")
        return found


def soak(
    localizer: Localizer,
    classes: Prompts,
    *,
    videos: int,
    seed: int = 0,
    new_processes: int = NEW_PROCESSES,
    say: Callable[[str], None] = lambda text: None,
) -> Soak:
    """Detect in so many videos with one localizer, from files and from arrays in turn.

    Every round sees the same videos in an order of its own, so that rounds can be compared, and encodes the prompts
    anew. What the first, uncounted one finds is what all others must find. At the end the process is held against
    new ones, which are Python's ``multiprocessing`` with ``spawn``: a script needs its ``if __name__ == "__main__"``.

    Args:
        localizer: opened, of any settings.
        classes: what to look for.
        videos: at least ``FEWEST_VIDEOS``; rounded up to whole rounds.
        seed: of features and orders.
        new_processes: how many to hold it against; from three on there is an interval.
        say: is told how far it is after each round.

    Raises:
        BenchmarkError: this system does not say what a process holds, or a new process failed.
        StaleError: bundle or prompts cannot be used.
    """
    mix = min(MIX, videos // FEWEST_ROUNDS)
    count = -(-videos // mix)
    with workspace() as folder:
        ours, theirs = folder / "ours", folder / "theirs"
        ours.mkdir()
        theirs.mkdir()
        before = _held()[1]
        rounds = Rounds(localizer, classes, videos=mix, seed=seed, folder=ours)
        samples = []
        for n in range(count):
            samples.append(Sample(*rounds.run(), *_held()))
            say(f"{(n + 1) * mix:,} of {count * mix:,} videos")
        beginning = Beginning(
            bundle=localizer.bundle.path.absolute(),
            sha256=localizer.bundle.manifest_sha256,
            settings=localizer.settings,
            classes=classes,
            videos=mix,
            seed=seed,
            folder=theirs,
        )
        turns = []
        with kept_on(choose_cpus(localizer.threads)):
            for pair in _beside_new_processes(rounds, beginning, new_processes):
                turns.append(pair)
                say(f"beside new process {len(turns)} of {new_processes}")
    return Soak(mix=mix, descriptors=before, samples=tuple(samples), turns=tuple(turns))


def _beside_new_processes(rounds: Rounds, beginning: Beginning, processes: int) -> Iterator[Turns]:
    """Rounds of this process and of one that has only just begun, in turns on the same CPUs."""
    for number in range(processes):
        with NewProcess(beginning) as new:
            pairs = []
            for turn in range(TURNS):
                if (number + turn) % 2:
                    ours, theirs = rounds.run(), new.run()
                else:
                    theirs, ours = new.run(), rounds.run()
                pairs.append((ours.wall_s, theirs.wall_s))
        yield Turns(*zip(*pairs, strict=True))


def _held() -> tuple[float, int]:
    """Resident memory in megabytes, and open descriptors."""
    try:
        return rss_mb(), open_descriptors()
    except OSError as problem:
        raise BenchmarkError(f"{problem}; a soak needs Linux") from problem
