"""What is gathered while a benchmark runs, so that it can be reported at any moment."""

from dataclasses import dataclass, field

from stale_bench.benchmark_backends import Backend


@dataclass(kw_only=True)
class Launch:
    """One process of a backend at a length."""

    number: int
    """Launches of the same number saw the same video."""
    startup: dict[str, float]
    """Milliseconds by stage."""
    imported_rss_mb: float
    """Peak memory once everything was imported."""
    warmup_ms: list[float] = field(default_factory=list)
    """Forward passes before anything counted."""
    rounds: list[dict[str, list[float]]] = field(default_factory=list)
    """Milliseconds by stage of each turn the process had."""
    peak_rss_mb: float | None = None
    """None if it did not live to say."""


@dataclass(kw_only=True)
class Record:
    """All that is known of a backend at a length."""

    backend: Backend
    length: int
    """T in snippets."""
    launches: list[Launch] = field(default_factory=list)
    repeats: int = 1
    """Samples of each stage in a turn."""
    error: str | None = None
    """Why there is nothing more."""
    file_mb: float | None = None
    gmacs: float | None = None
    int8_share: float | None = None
    gpu: dict[str, float] | None = None
    map: dict[str, float] | None = None
    """mAP in [0, 1] by tIoU with two decimals, and ``average``."""
    map_change: float | None = None
    """Of the average, against the network in fp32."""
