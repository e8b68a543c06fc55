"""Backends that do a known thing, for a worker to run: ``tests.bench.fakes:Name``."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stale_bench.benchmark_backends import Backend
from stale_bench.engines.engine import Engine, Facts, Step
from stale_bench.protocol import Job
from stale_runtime.detections import Detection
from stale_runtime.segments import FloatArray

BLOCK_MB = 64


class Quick(Engine):
    """Does nothing, and finds one action from second 10 to 20 of every video."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.forwards = 0

    def features(self) -> FloatArray:
        return np.zeros((4, 2), np.float32)

    def prompt_steps(self) -> Mapping[str, Step]:
        return {"prompts_warm": lambda: None, "prompts_cold": lambda: None}

    def steps(self, features: FloatArray) -> Mapping[str, Step]:
        return {"forward": self.forward, "decode": lambda: None}

    def forward(self) -> None:
        self.forwards += 1

    def facts(self, features: FloatArray) -> Facts:
        return Facts(file_mb=1.5, gmacs=2.5, int8_share=0.25)

    def detect(self, path: Path, duration_s: float) -> tuple[Detection, ...]:
        return (Detection("polo", 10.0, 20.0, 0.5),)


class Sleeps10(Quick):
    """A forward pass takes 10 ms and a little."""

    def forward(self) -> None:
        time.sleep(0.010)


class Sleeps30(Quick):
    """A forward pass takes 30 ms and a little."""

    def forward(self) -> None:
        time.sleep(0.030)


class Allocates(Quick):
    """Holds a block of known size."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.block = np.ones(BLOCK_MB * 10**6 // 8)


class Frees(Quick):
    """Held a block of known size for a moment."""

    def forward(self) -> None:
        super().forward()
        np.ones(BLOCK_MB * 10**6 // 8)


class CannotLoad(Quick):
    """Fails as a broken file would make it."""

    def __init__(self, job: Job) -> None:
        raise MemoryError("cannot allocate 99 GB")


class Dies(Quick):
    """Ends its process in the middle of a forward pass."""

    def forward(self) -> None:
        print("before it is said\nthe reason", file=sys.stderr)
        os._exit(7)


class Killed(Quick):
    """Is killed after some work, as for its memory."""

    def forward(self) -> None:
        super().forward()
        if self.forwards == 30:
            os.kill(os.getpid(), signal.SIGKILL)


class Chatty(Quick):
    """Prints what might be taken for an answer."""

    def forward(self) -> None:
        super().forward()
        print('{"error": "this is no answer"}')
        os.write(1, b"nor is this\n")


def fake(kind: type[Quick], name: str | None = None) -> Backend:
    """A backend that a plan can hold."""
    return Backend(name=name or kind.__name__.lower(), engine=f"tests.bench.fakes:{kind.__name__}")
