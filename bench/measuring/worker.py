"""A process that runs one backend at one length: ``python -P -m stale_bench.measuring.worker``.

A job comes first, then requests, each a line of JSON on standard input and each answered by one line. Nothing heavy is
imported until the job says what, since importing is one of the stages.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from stale_bench.protocol import Job, to_line

if TYPE_CHECKING:
    from stale_bench.engines.engine import Engine

_WARM_S, _WARM_MOST = 0.3, 20


class Worker:
    """A loaded backend and the video that it is timed on."""

    def __init__(self, job: Job) -> None:
        """Import and load, timing both.

        Args:
            job: what to run.
        """
        milliseconds, make = _timed(lambda: engine_class(job.engine))
        self._startup = {"import": milliseconds}
        self._imported_rss_mb = _peak_rss_mb()
        milliseconds, self._engine = _timed(lambda: make(job))
        if make.loads:
            self._startup["load"] = milliseconds
        self._prompt_steps = self._engine.prompt_steps()
        if "prompts_warm" in self._prompt_steps:
            self._startup["prompts_warm"] = _timed(self._prompt_steps["prompts_warm"])[0]
        self._features = self._engine.features()
        self._steps = self._engine.steps(self._features)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request asks for."""
        actions: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "start": self._start,
            "warm": self._warm,
            "sample": self._sample,
            "memory": self._memory,
            "cold": self._cold,
            "facts": self._facts,
            "detect": self._detect,
        }
        return actions[request["do"]](request)

    def _start(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"startup": self._startup, "imported_rss_mb": self._imported_rss_mb}

    def _warm(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run until caches are warm, and say how long all steps take once."""
        end = time.perf_counter() + _WARM_S
        warmup = [_timed(self._steps["forward"])[0]]
        while time.perf_counter() < end and len(warmup) < _WARM_MOST:
            warmup.append(_timed(self._steps["forward"])[0])
        others = [_timed(step)[0] for name, step in self._steps.items() if name != "forward"]
        return {"warmup_ms": warmup, "repeat_ms": warmup[-1] + sum(others)}

    def _sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        repeats = request["repeats"]
        if repeats > 1:
            self._steps["forward"]()  # others have had the caches since
        samples: dict[str, list[float]] = {name: [] for name in self._steps}
        for _ in range(repeats):
            for name, step in self._steps.items():
                samples[name].append(_timed(step)[0])
        return {"samples": samples}

    def _memory(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"peak_rss_mb": _peak_rss_mb()}

    def _cold(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if "prompts_cold" not in self._prompt_steps:
            return {}
        return {"prompts_cold": _timed(self._prompt_steps["prompts_cold"])[0]}

    def _facts(self, request: Mapping[str, Any]) -> dict[str, Any]:
        facts: dict[str, Any] = self._engine.facts(self._features)._asdict()
        return facts

    def _detect(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"detections": self._engine.detect(Path(request["path"]), request["duration_s"])}


def serve(job: Job, requests: Iterable[str], reply: TextIO) -> None:
    """Answer requests until there are no more, or one fails."""
    try:
        worker = Worker(job)
        for line in requests:
            print(to_line(worker.answer(json.loads(line))), end="", file=reply, flush=True)
    except Exception as problem:  # whatever goes wrong in a backend is a row of the report
        text = f"{type(problem).__name__}: {problem}" if not hasattr(problem, "exit_code") else str(problem)
        print(to_line({"error": " ".join(text.split())[:300]}), end="", file=reply, flush=True)


def main() -> None:
    """Run a worker."""
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    job = Job.from_line(sys.stdin.readline())
    if job.cpus:
        os.sched_setaffinity(0, job.cpus)
    _go_first_when_memory_runs_out()
    serve(job, sys.stdin, reply)


def _peak_rss_mb() -> float:
    from stale_runtime.system.peak_memory import peak_rss_mb  # only now: importing the runtime is part of what is timed

    return peak_rss_mb()


def _timed(step: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds that a step takes, and what it returns."""
    start = time.perf_counter_ns()
    result = step()
    return (time.perf_counter_ns() - start) / 1e6, result


def engine_class(engine: str) -> "type[Engine]":
    """The class that ``module:Class`` stands for, imported."""
    module, _, name = engine.partition(":")
    found: type[Engine] = getattr(import_module(module), name)
    return found


def _go_first_when_memory_runs_out() -> None:
    """Have the kernel kill this process, and not the benchmark, which can then say so."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


if __name__ == "__main__":
    main()
