"""The report of a benchmark, as dataclasses and as versioned JSON."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stale_runtime.errors import DatasetError
from stale_runtime.system.files import MEGABYTE, read_json
from stale_runtime.system.json_dataclasses import build

FORMAT_VERSION = 1
LARGEST_FILE = 512 * MEGABYTE
MOST_LAUNCHES = 10_000
"""Most processes of a backend at a length."""
LONGEST_MS = 1e9
"""Longest stage that is accepted: eleven days."""


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
    """Forward time divided by the baseline's at the same length; below 1 is faster."""

    baseline: str
    median: float
    low: float | None
    """Lower end of the interval; None if there are too few launches to tell."""
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A backend at a length."""

    backend: str
    length: int
    """T in snippets."""
    batch: int
    """B, videos in a forward pass."""
    threads: int
    classes: int
    """K"""
    stages: Mapping[str, Stage]
    repeats: int
    """Samples in a round."""
    warmup_ms: tuple[float, ...]
    """Forward passes of the warm-up."""
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
        if "forward" in self.stages and self.stages["forward"].median_ms <= 0:
            raise ValueError("stages.forward.median_ms is 0, expected a positive number")
        if self.map is not None and "average" not in self.map:
            raise ValueError("map has no average")


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
        """The row of a backend at a length; None if there is none."""
        return next((row for row in self.rows if (row.backend, row.length) == (backend, length)), None)


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
