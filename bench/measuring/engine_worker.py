"""A worker that times one backend at one length. It imports nothing of the runtime before it starts its clock."""

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from stale_bench.measuring.worker import import_named
from stale_bench.protocol import (
    Answer,
    BackendJob,
    ColdPrompts,
    Detect,
    EncodeColdPrompts,
    GatherFacts,
    PeakMemory,
    Question,
    ReadPeakMemory,
    Samples,
    Start,
    Started,
    TakeSamples,
    WarmedUp,
    WarmUp,
)

if TYPE_CHECKING:
    from stale_bench.engines.engine import Engine

_WARM_UP_S, _MOST_WARM_UPS = 0.3, 20


class EngineWorker:
    """A loaded backend and the video that it is timed on."""

    def __init__(self, job: BackendJob) -> None:
        """Import and load the backend, timing both."""
        import_ms, engine_class = _timed(lambda: import_named(job.engine))
        startup_ms = {"import": import_ms}
        imported_rss_mb = _peak_rss_mb()
        load_ms, engine = _timed(lambda: engine_class(job))
        if engine_class.loads:
            startup_ms["load"] = load_ms
        self._engine: Engine = engine
        self._prompt_steps = self._engine.prompt_steps()
        if "prompts_warm" in self._prompt_steps:
            startup_ms["prompts_warm"] = _timed(self._prompt_steps["prompts_warm"])[0]
        self._started = Started(startup_ms=startup_ms, imported_rss_mb=imported_rss_mb)
        self._steps = self._prepare_steps(job)
        self._main = self._steps.get("video") or self._steps["forward"]

    def answer(self, question: Question[Any]) -> Answer:
        """Do what is asked."""
        match question:
            case Start():
                return self._started
            case WarmUp():
                return self._warm_up()
            case TakeSamples(repeats=repeats):
                return self._take_samples(repeats)
            case ReadPeakMemory():
                return PeakMemory(rss_mb=_peak_rss_mb())
            case EncodeColdPrompts():
                step = self._prompt_steps.get("prompts_cold")
                return ColdPrompts(milliseconds=None if step is None else _timed(step)[0])
            case GatherFacts():
                return self._engine.facts(self._engine.features())
            case Detect(path=path, duration_s=duration_s):
                return self._engine.detect(Path(path), duration_s)
        raise TypeError(f"a backend's worker cannot answer {question}")

    def _prepare_steps(self, job: BackendJob) -> Mapping[str, Callable[[], Any]]:
        if job.mode is None:
            return self._engine.steps(self._engine.features())
        assert job.features is not None
        return self._engine.video_steps(Path(job.features))

    def _warm_up(self) -> WarmedUp:
        """Run the main step until caches are warm, then every other step once."""
        end = perf_counter_ns() + _WARM_UP_S * 1e9
        main_ms = [_timed(self._main)[0]]
        while perf_counter_ns() < end and len(main_ms) < _MOST_WARM_UPS:
            main_ms.append(_timed(self._main)[0])
        others_ms = [_timed(step)[0] for step in self._steps.values() if step is not self._main]
        return WarmedUp(main_ms=tuple(main_ms), repeat_ms=main_ms[-1] + sum(others_ms))

    def _take_samples(self, repeats: int) -> Samples:
        if repeats > 1:
            self._main()  # other processes have used the caches since the last turn
        samples: dict[str, list[float]] = {name: [] for name in self._steps}
        for _ in range(repeats):
            for name, step in self._steps.items():
                samples[name].append(_timed(step)[0])
        return Samples(stages_ms={name: tuple(values) for name, values in samples.items()})


def _peak_rss_mb() -> float:
    from stale_runtime.system.peak_memory import peak_rss_mb  # late: importing the runtime is part of what is timed

    return peak_rss_mb()


def _timed(step: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds that a step takes, and what it returns."""
    start = perf_counter_ns()
    result = step()
    return (perf_counter_ns() - start) / 1e6, result
