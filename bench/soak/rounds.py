"""Rounds through the same videos, in this process and in one that has only just begun."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple, TypeAlias

import numpy as np

from stale_bench.benchmark_inputs import random_features
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.detections import VideoDetections
from stale_runtime.errors import BenchmarkError
from stale_runtime.inference.localizer import EncodedPrompts, Localizer, Settings
from stale_runtime.inputs.prompts import Prompts

SHORTEST, MEDIAN, LONGEST = 16, 160, 3000
"""Snippets. ActivityNet's videos have a median of 160 to 190; the others are as far as a day's recordings may reach."""

_GO = "round"

Detect: TypeAlias = Callable[[EncodedPrompts], VideoDetections]


class Round(NamedTuple):
    """What a round cost."""

    wall_s: float
    cpu_s: float
    changed: int
    """Videos whose detections were not those of the first time."""


class Rounds:
    """The same videos again and again, each time in another order; every other one is a file.

    Every round encodes the prompts anew. What a first, uncounted one finds is what all others must find.
    """

    def __init__(self, localizer: Localizer, classes: Prompts, *, videos: int, seed: int, folder: Path) -> None:
        """Draw the videos and go through them once.

        Args:
            localizer: opened, of any settings.
            classes: what to look for.
            videos: of a round.
            seed: of features and orders.
            folder: where files are put.
        """
        self._localizer, self._classes = localizer, classes
        self._detectors = _detectors(localizer, folder, mixed_lengths(videos), seed)
        self._generator = np.random.default_rng(seed)
        prompts = localizer.encode_prompts(classes)
        self._first = [detect(prompts) for detect in self._detectors]

    def run(self) -> Round:
        """Go through all videos."""
        order = self._generator.permutation(len(self._detectors)).tolist()
        wall, cpu = time.perf_counter(), time.process_time()
        prompts = self._localizer.encode_prompts(self._classes)
        changed = sum(self._detectors[video](prompts) != self._first[video] for video in order)
        return Round(time.perf_counter() - wall, time.process_time() - cpu, changed)


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a new process needs to go through the same rounds."""

    bundle: Path
    sha256: str
    """The manifest's, since another bundle may stand there by now."""
    settings: Settings
    classes: Prompts
    videos: int
    seed: int
    folder: Path
    """Where files are put, since a process that is ended does not clean up."""


class NewProcess:
    """A process that opens the bundle and goes through rounds as it is told. Close it, or use it in a ``with``."""

    def __init__(self, beginning: Beginning) -> None:
        """Start it, and wait until it has gone through its first, uncounted round.

        Raises:
            BenchmarkError: it cannot, or died.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, beginning), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def run(self) -> Round:
        """A round of it.

        Raises:
            BenchmarkError: it cannot, or died.
        """
        with suppress(ConnectionError):  # the answer will not come, which says more
            self._connection.send(_GO)
        return self._answer()

    def _answer(self) -> Round:
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError) as problem:
            self._process.join()
            raise BenchmarkError(f"a new process ended with code {self._process.exitcode}") from problem
        if isinstance(answer, str):
            raise BenchmarkError(f"a new process: {answer}")
        return Round(*answer)

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def __enter__(self) -> "NewProcess":
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


def mixed_lengths(videos: int) -> tuple[int, ...]:
    """Snippets of so many videos, from ``SHORTEST`` to ``LONGEST`` and log-normal between, as real videos are."""
    if videos < 2:
        raise ValueError(f"{videos} videos, expected at least 2")
    normal = NormalDist()
    spread = np.log(LONGEST / MEDIAN) / normal.inv_cdf(1 - 0.5 / videos)
    lengths = [MEDIAN * np.exp(spread * normal.inv_cdf((n + 0.5) / videos)) for n in range(videos)]
    return (SHORTEST, *(max(SHORTEST, round(length)) for length in lengths[1:-1]), LONGEST)


@contextmanager
def kept_on(cpus: Sequence[int]) -> Iterator[None]:
    """Keep this thread, and processes that it starts, on some CPUs; none for where they are."""
    if not cpus:
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _serve(connection: Connection, beginning: Beginning) -> None:
    """Answer each message with a round, or with what was wrong, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks; this one ends with it
    try:
        localizer = Localizer(Bundle(beginning.bundle, expect_sha256=beginning.sha256), beginning.settings)
        rounds = Rounds(
            localizer, beginning.classes, videos=beginning.videos, seed=beginning.seed, folder=beginning.folder
        )
        connection.send(tuple(rounds.run()))
        while connection.recv() == _GO:
            connection.send(tuple(rounds.run()))
    except (EOFError, ConnectionError):
        return
    except Exception as problem:  # whatever it is, the one that asks has to say it
        connection.send(f"{type(problem).__name__}: {problem}")


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
