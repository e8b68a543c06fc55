"""Curves over length as an image, drawn with matplotlib."""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from stale_bench.reporting.axes import Axis
from stale_bench.reporting.benchmark_results import Results
from stale_bench.reporting.curve_styles import DASHES, LEVEL_DASH, LIGHT, MARKS, colour_number, dash_number
from stale_bench.reporting.curves import (
    MOST_MARKS,
    Curve,
    LegendEntry,
    Panel,
    legend_entries,
    make_panels,
    mark_number,
    sideways,
)
from stale_bench.reporting.tables import thread_count
from stale_runtime.errors import MissingPackageError
from stale_runtime.system.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
_WIDTH, _PANEL_HEIGHT = 11.0, 3.9
"""Inches; at the width of a README, a point is then half a pixel or more."""
_LEGEND_ROW = 0.24
_LONGEST_NAME, _LONGEST_IN_THREE = 40, 26
"""Characters of a name in the legend, and how many allow three columns of names."""


def check_can_plot() -> None:
    """Find out before measuring whether curves can be drawn.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingPackageError.for_extra("--plot needs matplotlib", "bench")


def plot(results: Results, suffix: str) -> bytes:
    """Draw all curves.

    Args:
        results: what was measured; without mAP, its panels are left out.
        suffix: one of ``SUFFIXES``, for the kind of image.

    Returns:
        The image file's content.
    """
    image = io.BytesIO()
    make_figure(results).savefig(image, dpi=150, format=suffix.removeprefix("."))
    return image.getvalue()


def make_figure(results: Results) -> "Figure":
    """The curves, two panels beside one another, with one legend for all below them."""
    from matplotlib.figure import Figure

    panels = make_panels(results)
    lengths = panels[0].lengths if panels else ()
    legend = _legend(legend_entries(panels), lengths)
    rows = max((len(panels) + 1) // 2, 1)
    height = rows * _PANEL_HEIGHT + 0.6 + _LEGEND_ROW * (len(legend["handles"]) / max(legend["ncols"], 1) + 1)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    figure.suptitle(f"{one_line(str(results.machine['cpu']))[:80]}, {thread_count(results)}", fontsize="medium")
    grid = list(figure.subplots(rows, 2, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    if legend["handles"]:
        figure.legend(**legend, loc="outside lower center", fontsize="small", frameon=False)
    return figure


def _draw(axes: "Axes", panel: Panel) -> None:
    axes.set_title(panel.title, fontsize="medium")
    _set_axis(axes, "x", panel.x)
    _set_axis(axes, "y", panel.y)
    axes.grid(alpha=0.3)
    for level in panel.levels:
        axes.axhline(level.y, **_level_look(level.style))
    for curve in panel.curves:
        _draw_curve(axes, panel, curve)
    if panel.bars:
        axes.set_xlabel(f"{panel.x.label}\nbars: {panel.bars}", fontsize="small")


def _set_axis(axes: "Axes", name: str, axis: Axis) -> None:
    """Set range and labels; there are no others than the axis names."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    drawn = axes.xaxis if name == "x" else axes.yaxis
    (axes.set_xscale if name == "x" else axes.set_yscale)("log" if axis.is_log else "linear")
    (axes.set_xlim if name == "x" else axes.set_ylim)(axis.low, axis.high)
    drawn.set_major_locator(FixedLocator(axis.ticks))
    drawn.set_major_formatter(FixedFormatter([f"{tick:g}" if tick < 1000 else f"{tick:,.0f}" for tick in axis.ticks]))
    drawn.set_minor_locator(NullLocator())
    drawn.set_label_text(axis.label, fontsize="small")
    drawn.set_tick_params(labelsize="small")


def _draw_curve(axes: "Axes", panel: Panel, curve: Curve) -> None:
    """Draw a line, and at each point the mark of its length and its interval."""
    from matplotlib.transforms import ScaledTranslation

    shift = ScaledTranslation(sideways(panel, curve) / 72, 0, axes.get_figure(root=True).dpi_scale_trans)  # type: ignore[union-attr]
    place: dict[str, Any] = {"transform": axes.transData + shift, "clip_on": False}
    look = _look(curve.style)
    axes.plot([point.x for point in curve.points], [point.y for point in curve.points], **look, **place)
    for point in curve.points:
        mark = MARKS[mark_number(panel, point)]
        axes.plot(point.x, point.y, marker=mark, markersize=5, color=look["color"], linestyle="", **place)
        if point.low is not None and point.high is not None:
            axes.plot([point.x, point.x], [point.low, point.high], color=look["color"], linewidth=1, alpha=0.8, **place)


def _look(style: int) -> dict[str, Any]:
    dash = DASHES[dash_number(style)]
    return {"color": LIGHT[colour_number(style)], "linewidth": 1.4, "linestyle": (0, dash) if dash else "-"}


def _level_look(style: int) -> dict[str, Any]:
    return {"color": LIGHT[colour_number(style)], "linewidth": 1, "linestyle": (0, LEVEL_DASH)}


def _legend(entries: Sequence[LegendEntry], lengths: tuple[int, ...]) -> dict[str, Any]:
    """Handles of the legend, column by column, and how many columns; the marks are in a column of their own."""
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], label=f"{length:,} snippets", marker=mark, linestyle="", color=LIGHT[0], markersize=5)
        for length, mark in zip(lengths if len(lengths) <= MOST_MARKS else (), MARKS, strict=False)
    ]
    labels = [one_line(entry.name)[:_LONGEST_NAME] for entry in entries]
    looks = [_look(entry.style) if entry.is_curve else _level_look(entry.style) for entry in entries]
    curves = [Line2D([], [], label=label, **look) for label, look in zip(labels, looks, strict=True)]
    columns = 3 if max(map(len, labels), default=0) <= _LONGEST_IN_THREE else 2
    depth = max(-(-len(curves) // columns), len(marks), 1)
    filled = -(-len(curves) // depth)
    blanks = [Line2D([], [], label=" ", linestyle="") for _ in range(filled * depth - len(curves))]
    return {"handles": [*curves, *blanks, *marks], "ncols": filled + bool(marks)}
