"""The report of a benchmark, as dataclasses and as versioned JSON."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stale_runtime.errors import DatasetError
from stale_runtime.system.files import MEGABYTE, read_json
from stale_runtime.system.json_dataclasses import build

FORMAT_VERSION = 2
LARGEST_FILE = 512 * MEGABYTE
MOST_LAUNCHES = 10_000
"""Most processes of a backend at a length."""
LONGEST_MS = 1e9
"""Longest stage that is accepted: eleven days."""

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

    def __post_init__(self) -> None:
        if self.snippets < 1 or min(self.per_launch, default=1) < 1:
            raise ValueError(f"{self.snippets} snippets, {list(self.per_launch)[:3]} per launch, expected at least 1")
        if self.map_alone is not None and "average" not in self.map_alone:
            raise ValueError("map_alone has no average")


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
    map_change: float | None
    """Average mAP minus the average mAP of the network in fp32."""
    error: str | None
    """Why the backend was not measured to the end."""
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.main is not None and self.main.median_ms <= 0:
            name = "video" if "video" in self.stages else "forward"
            raise ValueError(f"stages.{name}.median_ms is 0, expected a positive number")
        if self.map is not None and "average" not in self.map:
            raise ValueError("map has no average")
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


def main_stage(stages: Mapping[str, S]) -> S | None:
    """What was measured of the stage that backends are compared by; None if it was not measured."""
    return stages.get("video", stages.get("forward"))


def read_benchmark_results(path: str | os.PathLike[str]) -> Results:
    """Read what ``Results.to_json`` wrote.

    Raises:
        DatasetError: it is another file, is damaged, or has another version of the format.
    """
    path = Path(path)
    content = read_json(path, limit=LARGEST_FILE, error=DatasetError)
    if not isinstance(content, dict) or "rows" not in content or not isinstance(content.get("format_version"), int):
        raise DatasetError(f"{path}: not a result of stale-bench; give a file that stale-bench -o wrote")
    if content["format_version"] != FORMAT_VERSION:
        raise DatasetError(
            f"{path}: format_version {content['format_version']}, this version of stale-edge reads {FORMAT_VERSION}; "
            "measure again"
        )
    try:
        return build(Results, content)
    except ValueError as problem:
        raise DatasetError(f"{path}: damaged ({problem}); measure again") from problem
