"""What was measured, before it is summed up for a report."""

from collections.abc import Mapping
from dataclasses import dataclass

from stale_bench.benchmark_backends import Backend
from stale_bench.measuring.plan import BenchmarkCase
from stale_bench.protocol import Facts, Samples, Started


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One process that ran a backend at a length."""

    number: int
    """Launches with the same number used the same video."""
    started: Started
    warmup_ms: tuple[float, ...]
    """Forward passes, or videos, of the warm-up; none if the process died in it."""
    turns: tuple[Samples, ...]
    prompts_cold_ms: float | None
    """None if this launch did not encode prompts without a cache."""
    peak_rss_mb: float | None
    """None if the process ended before it was read."""

    def startup_ms(self) -> Mapping[str, float]:
        """Milliseconds of each stage that a process goes through once."""
        cold = {} if self.prompts_cold_ms is None else {"prompts_cold": self.prompts_cold_ms}
        return {**self.started.startup_ms, **cold}


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that was measured of a backend in a case."""

    backend: Backend
    case: BenchmarkCase
    launches: tuple[Launch, ...]
    repeats: int
    """Samples of each stage in a turn."""
    error: str | None
    """Why the backend was not measured to the end."""
    facts: Facts | None
    map: Mapping[str, float] | None
    """mAP in [0, 1], by tIoU with two decimals, and ``average``."""
    map_change: float | None
    """Average mAP minus the average mAP of the network in fp32."""
    map_alone: Mapping[str, float] | None = None
    """mAP of the videos that were joined, each alone; None if there is none of the case's own mode."""
    video_snippets: tuple[int, ...] = ()
    """Snippets of the video of each launch, if the case has snippets."""
