"""Summing up measurements as rows of the report."""

from collections.abc import Iterable, Sequence

import numpy as np

from stale_bench.measuring.records import Launch, Record
from stale_bench.protocol import Facts
from stale_bench.reporting.benchmark_results import Ratio, Row, Stage, VideoFacts, main_stage
from stale_bench.statistics.intervals import FEWEST_LAUNCHES, ratio_interval

STARTUP = ("import", "load", "prompts_cold", "prompts_warm")
REPEATED = ("resample", "forward", "decode", "end_to_end", "video")
STAGES = (*STARTUP, *REPEATED)
P90_SAMPLES, P99_SAMPLES = 64, 662
"""Fewest samples whose order statistics bound the percentile with 99 % confidence."""
NOISY = 0.1
"""Interquartile range over median of a process's times; above this, the machine was not quiet."""


def make_row(record: Record, baseline: Record | None, *, threads: int, classes: int) -> Row:
    """Sum up a backend in a case.

    Args:
        record: what was measured.
        baseline: the record of the baseline in the case that this one is compared with; None if it has none.
        threads: threads that an operator may use.
        classes: K
    """
    facts = record.facts or Facts(file_mb=None, gmacs=None, int8_share=None)
    peaks = [(launch.peak_rss_mb, launch.started.imported_rss_mb) for launch in record.launches if launch.peak_rss_mb]
    return Row(
        backend=record.backend.name,
        length=record.case.length,
        video=_video(record),
        batch=1,
        threads=threads,
        classes=classes,
        stages=_stages(record),
        repeats=record.repeats,
        warmup_ms=tuple(round(ms, 4) for launch in record.launches for ms in launch.warmup_ms),
        ratio=_ratio(record, baseline),
        peak_rss_mb=max((peak for peak, _ in peaks), default=None),
        rss_rise_mb=max((peak - imported for peak, imported in peaks), default=None),
        file_mb=facts.file_mb,
        gmacs=facts.gmacs,
        int8_share=facts.int8_share,
        gpu=facts.gpu,
        map=None if record.evaluated is None else record.evaluated.by_tiou,
        map_change=record.map_change,
        length_change=record.length_change,
        recomputed=record.recomputed,
        map_resamples=None if record.evaluated is None else record.evaluated.resamples,
        error=record.error,
        warnings=tuple(_warnings(record, baseline)),
    )


def _video(record: Record) -> VideoFacts | None:
    _, snippets, mode = record.case
    if snippets is None or mode is None:
        return None
    return VideoFacts(
        snippets=snippets,
        mode=mode,
        per_launch=record.video_snippets,
        map_alone=record.map_alone,
        alone_change=record.alone_change,
    )


def _stages(record: Record) -> dict[str, Stage]:
    stages: dict[str, Stage] = {}
    for name in STAGES:
        launches = [_samples_of(launch, name) for launch in record.launches]
        if any(launches):
            stages[name] = make_stage(launches)
    return stages


def _samples_of(launch: Launch, stage: str) -> list[float]:
    startup_ms = launch.startup_ms()
    if stage in startup_ms:
        return [startup_ms[stage]]
    return [ms for turn in launch.turns for ms in turn.stages_ms.get(stage, ())]


def make_stage(launches: Sequence[Sequence[float]]) -> Stage:
    """Sum up a stage.

    Args:
        launches: milliseconds of each launch; at least one sample altogether.
    """
    samples = np.array([ms for launch in launches for ms in launch])
    n = len(samples)
    return Stage(
        median_ms=float(np.median(samples)),
        p90_ms=float(np.quantile(samples, 0.90)) if n >= P90_SAMPLES else None,
        p99_ms=float(np.quantile(samples, 0.99)) if n >= P99_SAMPLES else None,
        n=n,
        samples_ms=tuple(samples.round(4).tolist()),
        per_launch=tuple(map(len, launches)),
    )


def main_by_round(record: Record) -> dict[int, list[float]]:
    """Median milliseconds of the main stage in each round, by launch."""
    return {
        launch.number: [float(np.median(main_stage(turn.stages_ms) or ())) for turn in launch.turns]
        for launch in record.launches
        if launch.turns
    }


def _ratio(record: Record, baseline: Record | None) -> Ratio | None:
    if baseline is None:
        return None
    ours, theirs = main_by_round(record), main_by_round(baseline)
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return None
    interval = ratio_interval([ours[n] for n in shared], [theirs[n] for n in shared])
    return Ratio(baseline=baseline.backend.name, median=interval.median, low=interval.low, high=interval.high)


def _warnings(record: Record, baseline: Record | None) -> Iterable[str]:
    if record.error is not None:
        return
    spreads = [_spread(_samples_of(launch, _main_name(record))) for launch in record.launches]
    spread = float(np.median(spreads)) if spreads else 0.0
    if spread > NOISY:
        yield (
            f"the machine was not quiet: {_main_name(record)} times of one process spread over {spread:.0%} of their "
            f"median, expected at most {NOISY:.0%}"
        )
    if len(record.launches) < FEWEST_LAUNCHES:
        needed = f"{FEWEST_LAUNCHES} processes that an interval needs"
        yield f"{len(record.launches)} of the {needed}; raise --budget, or --seeds of stale-bench thesis"
    if record.facts is not None and record.facts.recomputed:
        yield (
            "the guard has the video that is timed computed exactly: times are those of both graphs, and GMACs of the "
            "approximate one alone; give --features of real videos"
        )
    if baseline is not None and baseline.error is not None:
        yield f"the baseline {baseline.backend.name} failed"


def _main_name(record: Record) -> str:
    turns = (turn for launch in record.launches for turn in launch.turns)
    return "video" if any("video" in turn.stages_ms for turn in turns) else "forward"


def _spread(samples: Sequence[float]) -> float:
    """Interquartile range over median; 0 for too few samples."""
    if len(samples) < 4:
        return 0.0
    low, median, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return float((high - low) / median)
