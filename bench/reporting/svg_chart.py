"""Curves as SVG inside a page: no script, no style attribute, a tooltip at each point."""

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from stale_bench.reporting.axes import Axis
from stale_bench.reporting.curve_styles import DARK, DASHES, LEVEL_DASH, LIGHT, colour_number, dash_number, mark_outline
from stale_bench.reporting.curves import Curve, LegendEntry, Panel, Point, mark_number, sideways
from stale_bench.statistics.map_difference import MapDifference
from stale_runtime.page.html_document import element

WIDTH, HEIGHT = 440.0, 290.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 24.0, 10.0, 42.0
_RADIUS = 4.0
_ROW = 20.0
_CHARACTER = 6.6
"""About how wide a character is."""


def panel_chart(panel: Panel) -> Element:
    """A chart of a panel, as an ``svg`` element.

    Intervals of curves with a common length are moved apart sideways.
    """
    chart = _chart(HEIGHT, f"{panel.title}. {panel.y.label} over {panel.x.label}. The tables have all values.")
    chart.extend(_x_axis(panel.x, HEIGHT))
    chart.extend(_y_axis(panel.y))
    for level in panel.levels:
        y = _up(panel.y, level.y)
        line = _line(_LEFT, y, WIDTH - _RIGHT, y, f"level c{colour_number(level.style)}")
        line.append(element("title", f"{level.name}: {level.y:.2f}"))
        chart.append(line)
    for curve in panel.curves:
        chart.append(_curve(panel, curve))
    return chart


def line_sample(entry: LegendEntry) -> Element:
    """A short piece of a line, for a legend."""
    sample = element("svg", viewBox="0 0 34 12", width="34", height="12", aria_hidden="true")
    sample.append(
        _line(1, 6, 33, 6, _classes(entry.style) if entry.is_curve else f"level c{colour_number(entry.style)}")
    )
    return sample


def mark_sample(mark: int) -> Element:
    """The mark of a length, for a legend."""
    sample = element("svg", viewBox="-6 -6 12 12", width="12", height="12", aria_hidden="true")
    sample.append(element("polygon", points=_corners(mark_outline(mark, 5), 0, 0), class_="mark c0"))
    return sample


def difference_chart(differences: Sequence[tuple[str, MapDifference]], label: str, axis: Axis) -> Element:
    """Differences with their intervals, one below the other, around a line at 0.

    Args:
        differences: with what each is of.
        label: what all of them are.
        axis: in percent points.
    """
    height = _TOP + _ROW * len(differences) + _BOTTOM
    chart = _chart(height, f"{label}. The tables have all values.")
    left = min(24 + _CHARACTER * max(len(name) for name, _ in differences), 0.65 * WIDTH)
    chart.extend(_x_axis(axis, height, left))
    zero = _across(axis, 0.0, left)
    chart.append(_line(zero, _TOP, zero, height - _BOTTOM, "zero"))
    for n, (name, difference) in enumerate(differences):
        y = _TOP + _ROW * (n + 0.5)
        kind = "unknown" if difference.may_be_chance is None else "chance" if difference.may_be_chance else "clear"
        row = element("g", element("title", f"{name}: {difference}"), class_=f"difference {kind}")
        row.append(element("text", name, x=_number(left - 6), y=_number(y + 4), text_anchor="end"))
        if difference.low is not None and difference.high is not None:
            ends = (_across(axis, end, left) for end in (difference.low, difference.high))
            row.append(_line(next(ends), y, next(ends), y, "interval"))
        x = _across(axis, difference.points, left)
        row.append(element("circle", cx=_number(x), cy=_number(y), r=_number(_RADIUS)))
        chart.append(row)
    return chart


def chart_styles() -> str:
    """The CSS of charts: colours and dashes by class."""
    dashes = "".join(
        f".d{n} {{ stroke-dasharray: {' '.join(map(str, dash)) or 'none'}; }}\n" for n, dash in enumerate(DASHES)
    )
    curves = "".join(f".c{n} {{ --curve: var(--chart-{n}); }}\n" for n in range(len(LIGHT)))
    light, dark = (" ".join(f"--chart-{n}: {c};" for n, c in enumerate(colours)) for colours in (LIGHT, DARK))
    root = f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    return f"{root}{dashes}.level {{ stroke-dasharray: {' '.join(map(str, LEVEL_DASH))}; }}\n{curves}"


def _chart(height: float, label: str) -> Element:
    box = f"0 0 {_number(WIDTH)} {_number(height)}"
    return element("svg", viewBox=box, role="img", aria_label=label, class_="chart")


def _x_axis(axis: Axis, height: float, left: float = _LEFT) -> Iterator[Element]:
    bottom = height - _BOTTOM
    taken = float("-inf")
    for tick in axis.ticks:
        x = _across(axis, tick, left)
        yield _line(x, _TOP, x, bottom, "grid")
        text = _tick(tick)
        half = _CHARACTER / 2 * len(text)
        if x - half > taken:
            taken = x + half
            yield element("text", text, x=_number(x), y=_number(bottom + 15), text_anchor="middle")
    middle = (left + WIDTH - _RIGHT) / 2
    yield element("text", axis.label, x=_number(middle), y=_number(bottom + 34), text_anchor="middle")


def _y_axis(axis: Axis) -> Iterator[Element]:
    for tick in axis.ticks:
        y = _up(axis, tick)
        yield _line(_LEFT, y, WIDTH - _RIGHT, y, "grid")
        yield element("text", _tick(tick), x=_number(_LEFT - 6), y=_number(y + 4), text_anchor="end")
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    place = f"translate(11 {_number(middle)}) rotate(-90)"
    yield element("text", axis.label, transform=place, text_anchor="middle")


def _curve(panel: Panel, curve: Curve) -> Element:
    group = element("g", class_=_classes(curve.style))
    shift = sideways(panel, curve)
    places = [(_across(panel.x, point.x) + shift, _up(panel.y, point.y)) for point in curve.points]
    if len(places) > 1:
        group.append(element("polyline", points=" ".join(f"{_number(x)},{_number(y)}" for x, y in places)))
    for point, (x, y) in zip(curve.points, places, strict=True):
        mark = element("g", element("title", _tooltip(panel, curve, point)), class_="point")
        if point.low is not None and point.high is not None:
            mark.append(_line(x, _up(panel.y, point.low), x, _up(panel.y, point.high), "interval"))
        outline = mark_outline(mark_number(panel, point), _RADIUS)
        mark.append(element("polygon", points=_corners(outline, x, y), class_="mark"))
        group.append(mark)
    return group


def _tooltip(panel: Panel, curve: Curve, point: Point) -> str:
    interval = "" if point.low is None or point.high is None else f" ({point.low:.4g} to {point.high:.4g})"
    where = "" if point.x == point.length else f", {panel.x.label.removesuffix(' (logarithmic)')} {point.x:.4g}"
    return f"{curve.name}, {point.length} snippets{where}: {point.y:.4g}{interval}"


def _classes(style: int) -> str:
    return f"curve c{colour_number(style)} d{dash_number(style)}"


def _across(axis: Axis, value: float, left: float = _LEFT) -> float:
    return left + axis.position(value) * (WIDTH - left - _RIGHT)


def _up(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.position(value) * (HEIGHT - _TOP - _BOTTOM)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Element:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", class_=kind, **{name: _number(value) for name, value in ends.items()})


def _corners(outline: Sequence[tuple[float, float]], x: float, y: float) -> str:
    return " ".join(f"{_number(x + dx)},{_number(y + dy)}" for dx, dy in outline)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
