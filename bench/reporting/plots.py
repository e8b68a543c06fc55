"""Curves over length: latency, memory, mAP; and mAP against latency."""

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from stale_bench.benchmark_backends import EXTRA_HINT
from stale_bench.reporting.benchmark_results import Results, Row
from stale_bench.reporting.tables import thread_count
from stale_runtime.errors import BenchmarkError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
LATENCY, MEMORY, MAP = "forward pass, ms", "peak memory, MB", "average mAP, %"


def check_can_plot() -> None:
    """Find out before measuring whether curves can be drawn.

    Raises:
        BenchmarkError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise BenchmarkError(f"--plot needs matplotlib; {EXTRA_HINT}")


def plot(results: Results, suffix: str) -> bytes:
    """Draw all curves.

    Args:
        results: what was measured; without mAP, its panels are left out.
        suffix: one of ``SUFFIXES``, for the kind of image.

    Returns:
        The image file's content.
    """
    from matplotlib.figure import Figure

    with_map = any(row.map is not None for row in results.rows)
    figure = Figure(figsize=(11, 8 if with_map else 4), layout="constrained")
    panels = figure.subplots(2 if with_map else 1, 2).flat
    _draw_over_length(panels[0], results.rows, LATENCY, _latency)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter("{x:g}")
    _draw_over_length(panels[1], results.rows, MEMORY, lambda row: row.peak_rss_mb)
    if with_map:
        _draw_over_length(panels[2], results.rows, MAP, _average_map)
        _draw_map_against_latency(panels[3], results.rows)
    figure.suptitle(f"{results.machine['cpu']}, {thread_count(results)}", fontsize="medium")
    image = io.BytesIO()
    figure.savefig(image, dpi=150, format=suffix.removeprefix("."))
    return image.getvalue()


def _draw_over_length(axes: "Axes", rows: Sequence[Row], label: str, value: Callable[[Row], float | None]) -> None:
    _draw_curves(axes, rows, lambda row: float(row.length), value)
    axes.set_xlabel("length, snippets")
    axes.set_ylabel(label)


def _draw_map_against_latency(axes: "Axes", rows: Sequence[Row]) -> None:
    _draw_curves(axes, rows, _latency, _average_map)
    for row in rows:
        x, y = _latency(row), _average_map(row)
        if x is not None and y is not None:
            axes.annotate(f"T={row.length}", (x, y), fontsize="x-small", xytext=(3, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel(LATENCY)
    axes.set_ylabel(MAP)


def _draw_curves(
    axes: "Axes", rows: Sequence[Row], x: Callable[[Row], float | None], y: Callable[[Row], float | None]
) -> None:
    """Draw a curve for each backend, in the same colour in each panel."""
    for n, backend in enumerate(dict.fromkeys(row.backend for row in rows)):
        points = [(x(row), y(row)) for row in rows if row.backend == backend]
        known = sorted((a, b) for a, b in points if a is not None and b is not None)
        if known:
            axes.plot(*zip(*known, strict=True), marker="o", color=f"C{n}", label=backend)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize="small")


def _latency(row: Row) -> float | None:
    return row.stages["forward"].median_ms if "forward" in row.stages else None


def _average_map(row: Row) -> float | None:
    return None if row.map is None else 100 * row.map["average"]
