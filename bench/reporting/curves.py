"""Which curves a report has, and the axes that they are drawn on; nothing is drawn here.

``plots`` draws them with matplotlib, ``svg_chart`` as SVG for a page. Axes do not exaggerate: memory starts at 0, times
have a logarithmic axis, see ``axes``, and mAP has an axis of at least ``LEAST_POINTS`` points.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stale_bench.reporting.axes import Axis, linear_axis, log_axis
from stale_bench.reporting.benchmark_results import Results, Row, launch_medians
from stale_runtime.system.text import one_line

LATENCY, MEMORY, MAP = "forward pass, ms", "peak memory, MB", "average mAP, %"
VIDEO_TIME = "video, ms"
LENGTH, VIDEO_LENGTH = "T, snippets", "length of a video, snippets"
LEAST_POINTS = 10.0
"""Percent points that an axis of mAP spans at least."""
MOST_MARKS = 8
"""Lengths that get a mark of their own; there are not more marks that one can tell apart."""
_APART, _FARTHEST = 3.0, 18.0
"""How far curves are moved apart sideways, and all of them together, in points of an image."""
_LONGEST_NAME = 60
"""Characters of a backend's name, which may come from a file."""
_SHORTEST_MS = 1e-6
"""Times below this have no place in a chart."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value with its interval, if it has one."""

    x: float
    y: float
    low: float | None
    high: float | None
    length: int
    """T in snippets, or N of a video, which its mark stands for."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A backend, or a way in which it processes videos."""

    name: str
    style: int
    """Number of its colour and dashes; the same in all panels."""
    points: tuple[Point, ...]
    """From left to right."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """A horizontal line that a curve is compared with."""

    name: str
    style: int
    y: float


class LegendEntry(NamedTuple):
    """A line whose meaning a legend says."""

    style: int
    name: str
    is_curve: bool
    """False for a level."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves with common axes."""

    title: str
    bars: str
    """What the intervals are; empty if no point has one."""
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    levels: tuple[Level, ...] = ()

    @property
    def is_over_length(self) -> bool:
        """Whether x is a length, and not a time."""
        return all(point.x == point.length for curve in self.curves for point in curve.points)

    @property
    def lengths(self) -> tuple[int, ...]:
        """T, or N, of the points, ascending."""
        return tuple(sorted({point.length for curve in self.curves for point in curve.points}))


def make_panels(results: Results) -> tuple[Panel, ...]:
    """All curves of a report: time, memory and, if it was computed, mAP over length, and mAP over time.

    A panel that would have no curve is left out.
    """
    rows = results.rows
    if any(row.video is not None for row in rows):
        panels = [
            _panel("Time over the length of a video", rows, _N, _VIDEO),
            _panel("Memory over the length of a video", rows, _N, _PEAK),
            _panel("mAP over the length of a video", rows, _N, _MAP, _alone_levels(rows)),
        ]
    else:
        panels = [
            _panel("Time over length", rows, _T, _FORWARD),
            _panel("Memory over length", rows, _T, _PEAK),
            _panel("mAP over length", rows, _T, _MAP),
            _panel("mAP against time", rows, _FORWARD, _MAP),
        ]
    return tuple(panel for panel in panels if panel is not None)


def legend_entries(panels: Sequence[Panel]) -> list[LegendEntry]:
    """All curves, and then all lines that they are compared with, each once."""
    curves = {LegendEntry(curve.style, curve.name, True) for panel in panels for curve in panel.curves}
    levels = {LegendEntry(level.style, level.name, False) for panel in panels for level in panel.levels}
    return [*sorted(curves), *sorted(levels)]


def mark_number(panel: Panel, point: Point) -> int:
    """Which mark a point has: one for each length, or the same for all if there are more lengths than marks."""
    return panel.lengths.index(point.length) if len(panel.lengths) <= MOST_MARKS else 0


def sideways(panel: Panel, curve: Curve) -> float:
    """How far a curve is moved to the right, in points of an image, so that intervals at one length hide none.

    A curve is not moved where it has no intervals, on a logarithmic axis, or where x itself is measured.
    """
    moved = [other.style for other in panel.curves if any(point.low is not None for point in other.points)]
    if not panel.is_over_length or panel.y.is_log or curve.style not in moved:
        return 0.0
    step = min(_APART, _FARTHEST / len(moved))
    return (moved.index(curve.style) - (len(moved) - 1) / 2) * step


def curve_rows(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each curve, by its name.

    A whole video at T = N is a point of the curve for T = N, and also of that for T if there is one.
    """
    curves: dict[str, list[Row]] = {}
    for row in rows:
        curves.setdefault(_curve_name(row), []).append(row)
    for row in rows:
        if row.video is not None and row.video.snippets == row.length and row.video.mode == "whole":
            curves.get(f"{one_line(row.backend)[:_LONGEST_NAME]}, whole, T={row.length}", []).append(row)
    return curves


def _curve_name(row: Row) -> str:
    backend = one_line(row.backend)[:_LONGEST_NAME]
    if row.video is None:
        return backend
    if row.video.mode != "whole":
        return f"{backend}, {one_line(row.video.mode)[:_LONGEST_NAME]}"
    return f"{backend}, whole, T={'N' if row.length == row.video.snippets else row.length}"


_MAP_BARS = "95 % interval of the difference from ort-fp32 at the same length"
_Value = tuple[float, float | None, float | None]
"""A value and the ends of its interval."""


class _Quantity(NamedTuple):
    """Something that rows have, and its axis."""

    of: Callable[[Row], _Value | None]
    axis: Callable[[Sequence[float]], Axis]
    bars: str = ""
    """What the intervals of its values are."""


def _length(row: Row) -> _Value:
    return float(row.length), None, None


def _snippets(row: Row) -> _Value:
    return float(row.length if row.video is None else row.video.snippets), None, None


def _time(row: Row) -> _Value | None:
    if row.main is None or row.main.median_ms < _SHORTEST_MS:
        return None
    medians = launch_medians(row.main)
    has_ends = len(medians) > 1 and min(medians) >= _SHORTEST_MS  # a logarithmic axis has no 0
    ends = (min(medians), max(medians)) if has_ends else (None, None)
    return row.main.median_ms, *ends


def _memory(row: Row) -> _Value | None:
    return None if row.peak_rss_mb is None else (row.peak_rss_mb, None, None)


def _average_map(row: Row) -> _Value | None:
    """In percent, with the interval of its difference from the network in fp32."""
    if row.map is None:
        return None
    average, change = 100 * row.map["average"], row.map_change
    if change is None or change.low is None or change.high is None:
        return average, None, None
    reference = average - change.points
    return average, reference + change.low, reference + change.high


def _map_axis(values: Sequence[float]) -> Axis:
    return linear_axis(MAP, values, least=LEAST_POINTS, whole=(0, 100))


_T = _Quantity(_length, lambda values: linear_axis(LENGTH, values, whole=(0, math.inf)))
_N = _Quantity(_snippets, lambda values: log_axis(VIDEO_LENGTH, values))
_FORWARD = _Quantity(_time, lambda values: log_axis(LATENCY, values), "lowest and highest median of the processes")
_VIDEO = _FORWARD._replace(axis=lambda values: log_axis(VIDEO_TIME, values))
_PEAK = _Quantity(_memory, lambda values: linear_axis(MEMORY, values, whole=(0, math.inf)))
_MAP = _Quantity(_average_map, _map_axis, _MAP_BARS)


def _panel(title: str, rows: Sequence[Row], x: _Quantity, y: _Quantity, levels: tuple[Level, ...] = ()) -> Panel | None:
    """Gather what a panel shows; None if that is nothing."""
    curves = []
    for style, (name, members) in enumerate(curve_rows(rows).items()):
        if points := list(_points(members, x, y)):
            curves.append(Curve(name=name, style=style, points=tuple(sorted(points, key=lambda point: point.x))))
    points = [point for curve in curves for point in curve.points]
    if not points:
        return None
    ends = [end for point in points for end in (point.y, point.low, point.high) if end is not None]
    return Panel(
        title=title,
        bars=y.bars if any(point.low is not None for point in points) else "",
        x=x.axis([point.x for point in points]),
        y=y.axis([*ends, *(level.y for level in levels)]),
        curves=tuple(curves),
        levels=levels,
    )


def _points(rows: Sequence[Row], x: _Quantity, y: _Quantity) -> Iterator[Point]:
    for row in rows:
        across, up = x.of(row), y.of(row)
        if across is not None and up is not None:
            yield Point(x=across[0], y=up[0], low=up[1], high=up[2], length=round(_snippets(row)[0]))


def _alone_levels(rows: Sequence[Row]) -> tuple[Level, ...]:
    """The mAP of the videos that were joined, each alone, for each backend."""
    styles = {name: style for style, name in enumerate(curve_rows(rows))}
    levels = {
        row.backend: Level(
            name=f"{one_line(row.backend)[:_LONGEST_NAME]}, each video alone",
            style=styles[_curve_name(row)],
            y=100 * row.video.map_alone["average"],
        )
        for row in rows
        if row.video is not None and row.video.mode == "windows" and row.video.map_alone is not None
    }
    return tuple(levels.values())
