"""What was measured, before it is summed up for a report."""

from collections.abc import Mapping
from dataclasses import dataclass

from stale_bench.benchmark_backends import Backend
from stale_bench.measuring.plan import BenchmarkCase
from stale_bench.protocol import Facts, Samples, Started
from stale_bench.statistics.map_difference import MapDifference, map_difference


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
class EvaluatedMap:
    """The mAP of a backend, and over each resample of the videos."""

    by_tiou: Mapping[str, float]
    """mAP in [0, 1], by tIoU with two decimals, and ``average``."""
    resamples: tuple[float | None, ...]
    """Average mAP in [0, 1]; the n-th of all backends is over the same videos. None for one without annotations."""

    def difference_from(self, reference: "EvaluatedMap") -> MapDifference:
        """By how much the average differs from that of a reference on the same videos."""
        ours, theirs = self.by_tiou["average"], reference.by_tiou["average"]
        return map_difference(ours, theirs, self.resamples, reference.resamples)


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
    evaluated: EvaluatedMap | None
    map_change: MapDifference | None
    """Average mAP minus the average mAP of the network in fp32."""
    length_change: MapDifference | None = None
    """Average mAP minus that of the same backend at the first length; None for that length itself."""
    alone_change: MapDifference | None = None
    """Average mAP minus that of ``map_alone``."""
    map_alone: Mapping[str, float] | None = None
    """mAP of the videos that were joined, each alone; None if there is none of the case's own mode."""
    recomputed: int | None = None
    """Videos of the mAP that were computed exactly, at least in part; None for a backend that does not approximate."""
    video_snippets: tuple[int, ...] = ()
    """Snippets of the video of each launch, if the case has snippets."""
