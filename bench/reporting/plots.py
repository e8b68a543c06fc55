"""Curves over length: latency, memory, mAP; and mAP against latency. The length is T, or that of videos."""

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
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
LATENCY, MEMORY, MAP = "forward pass, ms", "peak memory, MB", "average mAP, %"
VIDEO_TIME = "video, ms"
VIDEO_LENGTH = "length of a video, snippets"


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
    if any(row.video is not None for row in results.rows):
        figure = Figure(figsize=(16 if with_map else 11, 5), layout="constrained")
        _draw_footage(figure, results.rows, with_map)
        return _image(figure, results, suffix)
    figure = Figure(figsize=(11, 8 if with_map else 4), layout="constrained")
    panels = figure.subplots(2 if with_map else 1, 2).flat
    _draw_over_length(panels[0], results.rows, LATENCY, _latency)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter("{x:g}")
    _draw_over_length(panels[1], results.rows, MEMORY, lambda row: row.peak_rss_mb)
    if with_map:
        _draw_over_length(panels[2], results.rows, MAP, _average_map)
        _draw_map_against_latency(panels[3], results.rows)
    return _image(figure, results, suffix)


def _image(figure: "Figure", results: Results, suffix: str) -> bytes:
    figure.suptitle(f"{results.machine['cpu']}, {thread_count(results)}", fontsize="medium")
    image = io.BytesIO()
    figure.savefig(image, dpi=150, format=suffix.removeprefix("."))
    return image.getvalue()


def _draw_footage(figure: "Figure", rows: Sequence[Row], with_map: bool) -> None:
    """Draw time, memory and mAP over the length of videos, and the mAP of the videos that were joined as a line."""
    panels: list[tuple[str, Callable[[Row], float | None]]] = [
        (VIDEO_TIME, lambda row: None if row.main is None else row.main.median_ms),
        (MEMORY, lambda row: row.peak_rss_mb),
    ]
    if with_map:
        panels.append((MAP, _average_map))
    for axes, (label, value) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _draw_curves(axes, rows, _snippets, value)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        if label == VIDEO_TIME:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        if label == MAP:
            _draw_alone(axes, rows)
        axes.set_xlabel(VIDEO_LENGTH)
        axes.set_ylabel(label)


def _draw_alone(axes: "Axes", rows: Sequence[Row]) -> None:
    """Draw the mAP of the videos that were joined as a horizontal line for each backend."""
    colours = {name: f"C{n}" for n, name in enumerate(_curves(rows))}
    for row in {row.backend: row for row in rows if row.video is not None and row.video.mode == "windows"}.values():
        if row.video is not None and row.video.map_alone is not None:
            y, label = 100 * row.video.map_alone["average"], f"{row.backend}, each video alone"
            axes.axhline(y, linestyle=":", color=colours[f"{row.backend}, windows"], label=label)
    axes.legend(fontsize="small")


def _curves(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each curve: of a backend, and of each way in which it processes videos.

    A whole video at T = N is a point of the curve for T = N, and also of that for T if there is one.
    """
    curves: dict[str, list[Row]] = {}
    for row in rows:
        curves.setdefault(_curve_name(row), []).append(row)
    for row in rows:
        if row.video is not None and row.video.snippets == row.length and row.video.mode == "whole":
            curves.get(f"{row.backend}, whole, T={row.length}", []).append(row)
    return curves


def _curve_name(row: Row) -> str:
    if row.video is None:
        return row.backend
    if row.video.mode != "whole":
        return f"{row.backend}, {row.video.mode}"
    return f"{row.backend}, whole, T={'N' if row.length == row.video.snippets else row.length}"


def _snippets(row: Row) -> float | None:
    return None if row.video is None else float(row.video.snippets)


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
    """Draw each curve in the same colour in each panel."""
    for n, (name, members) in enumerate(_curves(rows).items()):
        points = [(x(row), y(row)) for row in members]
        known = sorted((a, b) for a, b in points if a is not None and b is not None)
        if known:
            axes.plot(*zip(*known, strict=True), marker="o", color=f"C{n}", label=name)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize="small")


def _latency(row: Row) -> float | None:
    return row.stages["forward"].median_ms if "forward" in row.stages else None


def _average_map(row: Row) -> float | None:
    return None if row.map is None else 100 * row.map["average"]
