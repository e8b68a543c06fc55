"""Rounds through the same videos with one localizer."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import TypeAlias

import numpy as np

from stale_bench.benchmark_inputs import random_features
from stale_bench.protocol import RoundCost
from stale_runtime.detections import VideoDetections
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inputs.prompts import Prompts

SHORTEST, MEDIAN, LONGEST = 16, 160, 3000
"""Snippets. ActivityNet's videos have a median of 160 to 190; the longest stands for a long recording."""

DetectIn: TypeAlias = Callable[[EncodedPrompts], VideoDetections]


class Rounds:
    """The same videos again and again, each time in another order; every second one is read from a file.

    Each round encodes the prompts again. The first round is not counted; every later one must find the same detections.
    """

    def __init__(self, localizer: Localizer, classes: Prompts, *, videos: int, seed: int, folder: Path) -> None:
        """Draw the videos and go through them once.

        Args:
            localizer: finds the actions.
            classes: what to look for.
            videos: number of videos in a round.
            seed: seed of the features and of the orders.
            folder: where feature files are written.
        """
        self._localizer, self._classes = localizer, classes
        self._detectors = _detectors(localizer, folder, mixed_lengths(videos), seed)
        self._generator = np.random.default_rng(seed)
        prompts = localizer.encode_prompts(classes)
        self._first = [detect(prompts) for detect in self._detectors]

    def run(self) -> RoundCost:
        """Detect actions in all videos again."""
        order = self._generator.permutation(len(self._detectors)).tolist()
        wall, cpu = time.perf_counter(), time.process_time()
        prompts = self._localizer.encode_prompts(self._classes)
        changed = sum(self._detectors[video](prompts) != self._first[video] for video in order)
        return RoundCost(wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu, changed=changed)


def mixed_lengths(videos: int) -> tuple[int, ...]:
    """Lengths of that many videos in snippets: ``SHORTEST``, ``LONGEST``, and log-normal between, as in real videos."""
    if videos < 2:
        raise ValueError(f"{videos} videos, expected at least 2")
    normal = NormalDist()
    spread = np.log(LONGEST / MEDIAN) / normal.inv_cdf(1 - 0.5 / videos)
    lengths = [MEDIAN * np.exp(spread * normal.inv_cdf((n + 0.5) / videos)) for n in range(videos)]
    return (SHORTEST, *(max(SHORTEST, round(length)) for length in lengths[1:-1]), LONGEST)


def _detectors(localizer: Localizer, folder: Path, lengths: Sequence[int], seed: int) -> list[DetectIn]:
    """A function for each video that detects actions in it; every second video is a float16 file, as real ones are."""
    detectors: list[DetectIn] = []
    for n, length in enumerate(lengths):
        features = random_features(length, localizer.bundle.manifest.channels, seed + n)
        if n % 2:
            detectors.append(partial(localizer.detect, features))
        else:
            path = folder / f"{n}.npy"
            np.save(path, features.astype(np.float16))
            detectors.append(partial(localizer.detect_file, path))
    return detectors
