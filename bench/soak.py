"""One localizer over very many videos: whether memory, open files, speed and detections stay as they were."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist, median
from typing import NamedTuple, TypeAlias

import numpy as np

from stale_bench.inputs import random_features
from stale_bench.memory import open_descriptors, rss_mb
from stale_bench.trend import Trend, trend
from stale_runtime.detections import VideoDetections
from stale_runtime.errors import BenchmarkError
from stale_runtime.localizer import EncodedPrompts, Localizer
from stale_runtime.prompts import Prompts

MIX = 200
"""Videos that are drawn. They come round again and again, each time in another order."""
FEWEST_ROUNDS = 20
FEWEST_VIDEOS = 10 * FEWEST_ROUNDS
SHORTEST, MEDIAN, LONGEST = 16, 160, 3000
"""Snippets. ActivityNet's videos have a median of 160 to 190; the others are as far as a day's recordings may reach."""
GROWTH = 0.02
"""Most that resident memory may grow after the warm-up, as a share of itself."""

Detect: TypeAlias = Callable[[EncodedPrompts], VideoDetections]


class Sample(NamedTuple):
    """What a round through all videos of the mix cost, and what the process held after it."""

    wall_s: float
    cpu_s: float
    rss_mb: float
    descriptors: int
    changed: int
    """Videos whose detections were not those of the first time."""


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

    def problems(self) -> list[str]:
        """What did not stay as it was, times apart: those are for the reader to judge, who knows what else ran."""
        found = []
        warm, last = self.samples[len(self.samples) // 10], self.samples[-1]
        growth = self.memory_trend().low * 0.9 * self.videos
        if growth > GROWTH * warm.rss_mb:
            found.append(f"memory grows, by {growth:.1f} MB at least over a warm process's {warm.rss_mb:.0f}")
        if last.descriptors > self.descriptors:
            found.append(f"{last.descriptors - self.descriptors} descriptors were left open")
        if self.changed:
            found.append(f"{self.changed} of {self.videos} videos had other detections than the first time")
        return found


def soak(
    localizer: Localizer,
    classes: Prompts,
    *,
    videos: int,
    seed: int = 0,
    say: Callable[[int], None] = lambda done: None,
) -> Soak:
    """Detect in so many videos with one localizer, from files and from arrays in turn.

    Every round sees the same videos in an order of its own, so that rounds can be compared, and encodes the prompts
    anew. What the first, uncounted one finds is what all others must find.

    Args:
        localizer: opened, of any settings.
        classes: what to look for.
        videos: at least ``FEWEST_VIDEOS``; rounded up to whole rounds.
        seed: of features and orders.
        say: is told how many videos are done after each round.

    Raises:
        BenchmarkError: this system does not say what a process holds.
        StaleError: bundle or prompts cannot be used.
    """
    mix = min(MIX, videos // FEWEST_ROUNDS)
    rounds = -(-videos // mix)
    generator = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="stale-bench-") as folder:
        detectors = _detectors(localizer, Path(folder), mixed_lengths(mix), seed)
        before = _held()[1]
        prompts = localizer.encode_prompts(classes)
        first = [detect(prompts) for detect in detectors]
        samples = []
        for n in range(rounds):
            order = generator.permutation(mix).tolist()
            wall, cpu = time.perf_counter(), time.process_time()
            prompts = localizer.encode_prompts(classes)
            changed = sum(detectors[video](prompts) != first[video] for video in order)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            samples.append(Sample(wall, cpu, *_held(), changed))
            say((n + 1) * mix)
    return Soak(mix=mix, descriptors=before, samples=tuple(samples))


def mixed_lengths(videos: int) -> tuple[int, ...]:
    """Snippets of so many videos, from ``SHORTEST`` to ``LONGEST`` and log-normal between, as real videos are."""
    if videos < 2:
        raise ValueError(f"{videos} videos, expected at least 2")
    normal = NormalDist()
    spread = np.log(LONGEST / MEDIAN) / normal.inv_cdf(1 - 0.5 / videos)
    lengths = [MEDIAN * np.exp(spread * normal.inv_cdf((n + 0.5) / videos)) for n in range(videos)]
    return (SHORTEST, *(max(SHORTEST, round(length)) for length in lengths[1:-1]), LONGEST)


def _detectors(localizer: Localizer, folder: Path, lengths: Sequence[int], seed: int) -> list[Detect]:
    """How to detect in each video of the mix: every other one is a file, of float16 as they are on disk."""
    detectors: list[Detect] = []
    for n, length in enumerate(lengths):
        features = random_features(length, localizer.bundle.manifest.channels, seed + n)
        if n % 2:
            detectors.append(partial(localizer.detect, features))
        else:
            path = folder / f"{n}.npy"
            np.save(path, features.astype(np.float16))
            detectors.append(partial(localizer.detect_file, path))
    return detectors


def _held() -> tuple[float, int]:
    """Resident memory in megabytes, and open descriptors."""
    try:
        return rss_mb(), open_descriptors()
    except OSError as problem:
        raise BenchmarkError(f"{problem}; a soak needs Linux") from problem
