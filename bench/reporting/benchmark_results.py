"""The report of a benchmark, as dataclasses and as versioned JSON."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stale_bench.statistics.map_difference import MapDifference
from stale_runtime.errors import DatasetError
from stale_runtime.system.files import MEGABYTE, read_json
from stale_runtime.system.json_dataclasses import build

FORMAT_VERSION = 4
OLDEST_VERSION = 1
"""Files from then on are read; what they lack is None."""
MOST_RESAMPLES = 10_000
"""Most resamples of the videos that a row may have the mAP of."""
LARGEST_FILE = 512 * MEGABYTE
MOST_LAUNCHES = 10_000
"""Most processes of a backend at a length."""
LONGEST_MS = 1e9
"""Longest stage that is accepted: eleven days."""

LARGEST_MB = 1e9
"""Most memory that is accepted: a petabyte."""
PEAK = "peak_gmacs_per_s"
"""Field of the machine: billions of multiplications a second, by kind of product; None if they were not measured."""

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How long a stage takes."""

    median_ms: float
    p90_ms: float | None
    """None if there are too few samples to tell."""
    p99_ms: float | None
    n: int
    """Samples."""
    samples_ms: tuple[float, ...]
    """In the order in which they were measured: by launch, then by round."""
    per_launch: tuple[int, ...]
    """Samples of each launch."""

    def __post_init__(self) -> None:
        if not 0 <= self.median_ms <= LONGEST_MS:
            raise ValueError(f"median_ms is {self.median_ms:g}, expected 0 to {LONGEST_MS:g}")
        if len(self.per_launch) > MOST_LAUNCHES or any(count < 0 for count in self.per_launch):
            raise ValueError(
                f"per_launch has {len(self.per_launch)} launches, expected at most {MOST_LAUNCHES}, each with 0 "
                "samples or more"
            )
        if not self.n or not self.n == len(self.samples_ms) == sum(self.per_launch):
            raise ValueError(
                f"samples_ms has {len(self.samples_ms)} samples, n is {self.n} and per_launch adds up to "
                f"{sum(self.per_launch)}, expected the same number, at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time divided by the baseline's at the same length; below 1 is faster.

    It is the forward time, or, of a row with footage, that of a video.
    """

    baseline: str
    median: float
    low: float | None
    """Lower end of the interval; None if there are too few launches to tell."""
    high: float | None

    def __post_init__(self) -> None:
        if not all(value > 0 for value in (self.median, self.low, self.high) if value is not None):
            raise ValueError(f"ratio is {self.median:g} from {self.low} to {self.high}, expected positive numbers")


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What a row says about videos of about the same number of snippets."""

    snippets: int
    """N, as asked for."""
    mode: str
    """``whole``: resampled to T; ``windows``: as ``stale-run`` does by default."""
    per_launch: tuple[int, ...]
    """Snippets of the video that each launch was timed on."""
    map_alone: Mapping[str, float] | None
    """mAP of the videos that were joined, each alone and by default; like ``Row.map``."""
    alone_change: MapDifference | None
    """Average mAP minus that of ``map_alone``."""

    def __post_init__(self) -> None:
        if self.snippets < 1 or min(self.per_launch, default=1) < 1:
            raise ValueError(f"{self.snippets} snippets, {list(self.per_launch)[:3]} per launch, expected at least 1")
        _check_map("map_alone", self.map_alone)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A backend at a length, or on videos of a length."""

    backend: str
    length: int
    """T in snippets."""
    video: VideoFacts | None
    """None if the stages of the network were timed, on any video."""
    batch: int
    """B, videos in a forward pass."""
    threads: int
    classes: int
    """K"""
    stages: Mapping[str, Stage]
    repeats: int
    """Samples in a round."""
    warmup_ms: tuple[float, ...]
    """Forward passes, or videos, of the warm-up."""
    ratio: Ratio | None
    peak_rss_mb: float | None
    rss_rise_mb: float | None
    """Peak memory minus the memory that the process used when everything was imported."""
    file_mb: float | None
    gmacs: float | None
    int8_share: float | None
    """Share of the multiplications that is done in int8, in [0, 1]."""
    gpu: Mapping[str, float] | None
    """Figures of a GPU: ``memory_mb``, and ``utilisation`` in [0, 1] if the driver tells."""
    map: Mapping[str, float] | None
    """mAP in [0, 1], by tIoU with two decimals, and ``average``."""
    map_change: MapDifference | None
    """Average mAP minus the average mAP of the network in fp32, on the same videos and at the same length."""
    length_change: MapDifference | None
    """Average mAP minus that of the same backend at the first length of the request; None for that length itself."""
    recomputed: int | None
    """Videos of the mAP that were computed exactly, at least in part, because an approximation was too far off.

    It is None for a backend that does not approximate.
    """
    map_resamples: tuple[float | None, ...] | None
    """Average mAP in [0, 1] over each resample of the videos; the n-th of all rows is over the same videos.

    It is None for a resample without annotations.
    """
    error: str | None
    """Why the backend was not measured to the end."""
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.main is not None and self.main.median_ms <= 0:
            name = "video" if "video" in self.stages else "forward"
            raise ValueError(f"stages.{name}.median_ms is 0, expected a positive number")
        if self.length < 1:
            raise ValueError(f"length is {self.length}, expected at least 1")
        if self.peak_rss_mb is not None and not 0 <= self.peak_rss_mb <= LARGEST_MB:
            raise ValueError(f"peak_rss_mb is {self.peak_rss_mb:g}, expected 0 to {LARGEST_MB:g}")
        if self.recomputed is not None and self.recomputed < 0:
            raise ValueError(f"recomputed is {self.recomputed}, expected at least 0")
        _check_map("map", self.map)
        if self.map_resamples is not None and not 0 < len(self.map_resamples) <= MOST_RESAMPLES:
            raise ValueError(f"map_resamples has {len(self.map_resamples)}, expected 1 to {MOST_RESAMPLES:,}")
        if self.video is not None and self.main is not None and len(self.video.per_launch) != len(self.main.per_launch):
            raise ValueError("video.per_launch and the times are of different numbers of launches")

    @property
    def main(self) -> Stage | None:
        """The stage that backends are compared by: a video from its file to its detections, or the forward pass."""
        return main_stage(self.stages)

    @property
    def is_baseline(self) -> bool:
        """Whether this is the row that others are compared with: with footage, the baseline on a whole video, T = N."""
        if self.ratio is None or self.ratio.baseline != self.backend:
            return False
        return self.video is None or (self.video.mode == "whole" and self.video.snippets == self.length)

    @property
    def alone_change(self) -> MapDifference | None:
        """Average mAP of joined videos minus that of each alone."""
        return None if self.video is None else self.video.alone_change

    @property
    def ms_per_1000_snippets(self) -> float | None:
        """Median time for each thousand snippets of a video; None if videos were not timed."""
        if self.video is None or self.main is None:
            return None
        snippets = np.repeat(self.video.per_launch, self.main.per_launch)  # of each sample
        return float(np.median(1e3 * np.array(self.main.samples_ms) / snippets))

    @property
    def conditions(self) -> tuple[str, int, int | None, str | None]:
        """What tells this row from the others: backend, T, N and mode."""
        snippets, mode = (None, None) if self.video is None else (self.video.snippets, self.video.mode)
        return self.backend, self.length, snippets, mode

    @property
    def title(self) -> str:
        """Names the row in notes."""
        if self.video is None:
            return f"{self.backend} T={self.length}"
        how = f"T={self.length}" if self.video.mode == "whole" else self.video.mode
        return f"{self.backend} {how}, {self.video.snippets:,} snippets"


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that a run of the benchmark measured, and under which conditions."""

    format_version: int
    created: str
    """Time in UTC, ISO 8601."""
    complete: bool
    """False if it was interrupted."""
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    bundle_sha256: str
    protocol: Mapping[str, Any]
    unavailable: Mapping[str, str]
    """Why backends that would have been measured cannot run here, by name."""
    rows: tuple[Row, ...]

    def to_json(self) -> str:
        """Everything as one JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False) + "\n"

    def row(self, backend: str, length: int) -> Row | None:
        """The row of a backend at a length, on any video; None if there is none."""
        return next((row for row in self.rows if row.conditions == (backend, length, None, None)), None)


def _check_map(name: str, values: Mapping[str, float] | None) -> None:
    if values is None:
        return
    if "average" not in values:
        raise ValueError(f"{name} has no average")
    if wrong := next((value for value in values.values() if not 0 <= value <= 1), None):
        raise ValueError(f"{name} has {wrong:g}, expected 0 to 1")


def main_stage(stages: Mapping[str, S]) -> S | None:
    """What was measured of the stage that backends are compared by; None if it was not measured."""
    return stages.get("video", stages.get("forward"))


def launch_medians(stage: Stage) -> list[float]:
    """Median milliseconds of each launch that has samples."""
    parts = np.split(np.array(stage.samples_ms), np.cumsum(stage.per_launch)[:-1])
    return [float(np.median(part)) for part in parts if len(part)]


def read_benchmark_results(path: str | os.PathLike[str]) -> Results:
    """Read what ``Results.to_json`` wrote.

    Raises:
        DatasetError: it is another file, is damaged, or has another version of the format.
    """
    path = Path(path)
    content = read_json(path, limit=LARGEST_FILE, error=DatasetError)
    if not isinstance(content, dict) or "rows" not in content or not isinstance(content.get("format_version"), int):
        raise DatasetError(f"{path}: not a result of stale-bench; give a file that stale-bench -o wrote")
    if not OLDEST_VERSION <= content["format_version"] <= FORMAT_VERSION:
        raise DatasetError(
            f"{path}: format_version {content['format_version']}, this version of stale-edge reads {OLDEST_VERSION} to "
            f"{FORMAT_VERSION}; measure again, or read it with the version that wrote it"
        )
    try:
        return build(Results, _bring_up_to_date(content))
    except ValueError as problem:
        raise DatasetError(f"{path}: damaged ({problem}); measure again") from problem


def check_can_be_shown(results: Results, path: str | os.PathLike[str]) -> None:
    """Make sure that a report can be made of results that were read.

    Raises:
        DatasetError: there is no row, or the conditions lack what a report says about them.
    """
    if not results.rows:
        raise DatasetError(f"{path}: no row, expected at least one backend that was measured; measure again")
    counts = ("evaluated_videos", "evaluated_videos_with_features")
    wanted: dict[str, tuple[type, ...]] = {
        "threads": (int,), "cpus": (list,), "inputs": (str,), "baseline": (str,), "confidence": (float,),
        "launches": (int,), **dict.fromkeys(counts, (int, type(None))),
    }  # fmt: skip
    for name, kinds in wanted.items():
        if type(results.protocol.get(name)) not in kinds:
            raise DatasetError(
                f"{path}: damaged (protocol.{name} is {results.protocol.get(name)!r:.60}); measure again"
            )
    if type(results.machine.get("cpu")) is not str:
        raise DatasetError(f"{path}: damaged (machine.cpu is {results.machine.get('cpu')!r:.60}); measure again")
    footage = results.protocol.get("footage") or {}
    if any(row.video is not None for row in results.rows) and not _is_footage(footage):
        raise DatasetError(f"{path}: damaged (protocol.footage lacks the lengths of the videos); measure again")


def _is_footage(content: Any) -> bool:
    """Whether it is the snippets of each video by N, with one of at least N for each."""
    return (
        isinstance(content, dict)
        and bool(content)
        and all(
            N.isdecimal() and isinstance(lengths, list) and all(type(n) is int for n in lengths)
            and any(n >= int(N) for n in lengths) and sum(n < int(N) for n in lengths) <= 1
            for N, lengths in content.items()
        )
    )  # fmt: skip


def _bring_up_to_date(content: dict[str, Any]) -> dict[str, Any]:
    """Turn an older file into one of this version.

    Version 1 had no videos, 2 changes of mAP without their intervals, and 3 no backend that approximates.
    """
    version, rows = content["format_version"], content["rows"]
    if version == FORMAT_VERSION or not isinstance(rows, list):
        return content
    return {**content, "format_version": FORMAT_VERSION, "rows": [_with_newer_fields(row) for row in rows]}


def _with_newer_fields(row: Any) -> Any:
    if not isinstance(row, dict):
        return row
    video, change = row.get("video"), row.get("map_change")
    if isinstance(change, int | float):
        change = {"points": 100 * change, "low": None, "high": None}
    if isinstance(video, dict):
        video = {"alone_change": _difference_without_interval(row.get("map"), video.get("map_alone")), **video}
    absent = {"length_change": None, "map_resamples": None, "recomputed": None}
    return {**absent, **row, "video": video, "map_change": change}


def _difference_without_interval(found: Any, reference: Any) -> dict[str, float | None] | None:
    ours, theirs = (content.get("average") if isinstance(content, dict) else None for content in (found, reference))
    if not isinstance(ours, int | float) or not isinstance(theirs, int | float):
        return None
    return {"points": 100 * (ours - theirs), "low": None, "high": None}
