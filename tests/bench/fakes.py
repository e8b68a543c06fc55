"""Backends that do a known thing, for a worker to run: ``tests.bench.fakes:Name``."""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stale_bench.benchmark_backends import Backend
from stale_bench.engines.engine import Engine, Step
from stale_bench.measuring import engine_worker
from stale_bench.protocol import BackendJob, Facts, Found
from stale_runtime.detections import Detection
from stale_runtime.segments import FloatArray

BLOCK_MB = 64


class Quick(Engine):
    """Does nothing, and finds one action from second 10 to 20 of every video."""

    def __init__(self, job: BackendJob) -> None:
        self.job = job
        self.forwards = 0

    def features(self) -> FloatArray:
        return np.zeros((4, 2), np.float32)

    def prompt_steps(self) -> Mapping[str, Step]:
        return {"prompts_warm": lambda: None, "prompts_cold": lambda: None}

    def steps(self, _features: FloatArray) -> Mapping[str, Step]:
        return {"forward": self.forward, "decode": lambda: None}

    def forward(self) -> None:
        self.forwards += 1

    def facts(self, _features: FloatArray) -> Facts:
        return Facts(file_mb=1.5, gmacs=2.5, int8_share=0.25)

    def detect(self, _path: Path, _duration_s: float) -> Found:
        return Found(detections=(Detection("polo", 10.0, 20.0, 0.5),))


class MissesEveryThird(Quick):
    """Finds nothing in videos whose number can be divided by three."""

    def detect(self, path: Path, duration_s: float) -> Found:
        return Found(detections=()) if int(path.stem.removeprefix("v")) % 3 == 0 else super().detect(path, duration_s)


class SeesMarks(Quick):
    """Finds polo in the snippets of a video whose first value is 1, as one action for each run of them."""

    def detect(self, path: Path, duration_s: float) -> Found:
        marked = np.load(path)[:, 0] == 1
        edges = np.flatnonzero(np.diff(marked, prepend=False, append=False))
        snippet_s = duration_s / len(marked)
        pairs = edges.reshape(-1, 2).tolist()
        return Found(detections=tuple(Detection("polo", s * snippet_s, e * snippet_s, 0.5) for s, e in pairs))


class DoesNotSee(Quick):
    """Has random weights, as the published network here."""

    def video_steps(self, _path: Path) -> Mapping[str, Step]:
        return {"forward": self.forward}


class Takes10(Quick):
    """A forward pass takes exactly 10 ms by the worker's clock, which only a forward pass moves."""

    milliseconds = 10

    def prompt_steps(self) -> Mapping[str, Step]:
        """Set the clock: nothing is being timed while the worker asks for steps."""
        vars(engine_worker)["perf_counter_ns"] = lambda: self.forwards * self.milliseconds * 10**6
        return super().prompt_steps()


class Takes30(Takes10):
    """A forward pass takes exactly 30 ms by the worker's clock."""

    milliseconds = 30


class Allocates(Quick):
    """Holds a block of known size."""

    def __init__(self, job: BackendJob) -> None:
        super().__init__(job)
        self.block = np.ones(BLOCK_MB * 10**6 // 8)


class Frees(Quick):
    """Held a block of known size for a moment."""

    def forward(self) -> None:
        super().forward()
        np.ones(BLOCK_MB * 10**6 // 8)


class CannotLoad(Quick):
    """Fails as a broken file would make it."""

    def __init__(self, _job: BackendJob) -> None:
        raise MemoryError("cannot allocate 99 GB")


class Dies(Quick):
    """Ends its process in the middle of a forward pass."""

    def forward(self) -> None:
        print("before it is said\nthe reason", file=sys.stderr)
        os._exit(7)


class Killed(Quick):
    """Is killed after some work, as the system does when memory runs out."""

    def forward(self) -> None:
        super().forward()
        if self.forwards == 30:
            os.kill(os.getpid(), signal.SIGKILL)


class Chatty(Quick):
    """Prints what might be taken for an answer."""

    def forward(self) -> None:
        super().forward()
        print('{"kind": "Failure", "reason": "this is no answer"}')
        os.write(1, b"nor is this\n")


class Approximates(Quick):
    """Computes the videos exactly whose number can be divided by three, and the one that is timed."""

    def facts(self, features: FloatArray) -> Facts:
        return replace(super().facts(features), recomputed=True)

    def detect(self, path: Path, duration_s: float) -> Found:
        return replace(super().detect(path, duration_s), recomputed=int(path.stem.removeprefix("v")) % 3 == 0)


class ReadsItsFile(Quick):
    """Runs what ``write_file`` made."""

    def __init__(self, job: BackendJob) -> None:
        super().__init__(job)
        self.exports = (Path(job.cache) / f"{job.length}.txt").read_text().splitlines()

    def facts(self, _features: FloatArray) -> Facts:
        return Facts(file_mb=float(len(self.exports)), gmacs=None, int8_share=None)


def write_file(job: BackendJob) -> None:
    """Write a line at each call."""
    with (Path(job.cache) / f"{job.length}.txt").open("a") as file:
        print("exported", file=file)


def fail_to_export(_job: BackendJob) -> None:
    raise OSError("no space left on device")


def fake(kind: type[Quick], name: str | None = None, **options: Any) -> Backend:
    """A backend that a plan can hold."""
    return Backend(name=name or kind.__name__.lower(), engine=f"tests.bench.fakes:{kind.__name__}", **options)
