"""A benchmark as a page for a browser: one file with curves, tables, conditions and samples, without scripts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any
from xml.etree.ElementTree import Element

from stale_bench.reporting.axes import linear_axis
from stale_bench.reporting.benchmark_results import Results, Row, Stage
from stale_bench.reporting.curves import MOST_MARKS, Panel, legend_entries, make_panels
from stale_bench.reporting.report_tables import ReportTable, ReportText
from stale_bench.reporting.svg_chart import chart_styles, difference_chart, line_sample, mark_sample, panel_chart
from stale_bench.statistics.map_difference import MapDifference
from stale_runtime.page.html_document import element, html_document, markup
from stale_runtime.page.scrolling_table import scrolling_table
from stale_runtime.system.text import one_line

MOST_SAMPLES = 50_000
"""Times that a page shows altogether; a file of JSON has all."""
MOST_SAMPLES_OF_STAGE = 400
LONGEST_TEXT = 300
"""Characters that a page shows of any text of a results file."""
_LONGEST_TITLE = 40
"""Characters of what a difference is of."""
_NARROWEST = 2.0
"""Percent points that the axis of differences spans at least."""


def bench_page(results: Results, report: ReportText) -> str:
    """Show results as one HTML file that loads nothing.

    Args:
        results: what was measured; text in it never becomes markup.
        report: its tables and notes.

    Returns:
        The text of the file.
    """
    title = f"Benchmark on {_shown(results.machine.get('cpu', 'an unknown CPU'))}"
    main = element(
        "main",
        element("h1", title),
        element("p", _when(results), class_="faint"),
        *_charts(results),
        *_differences(results),
        element("h2", "Tables"),
        *map(_table, report.tables),
        element("ul", *(element("li", _shown(note)) for note in report.notes)),
        element("h2", "Machine and protocol"),
        *_conditions(results),
        element("h2", "Samples"),
        *_samples(results),
    )
    styles = files("stale_bench.reporting").joinpath("assets", "bench.css").read_text("utf-8")
    return html_document(title=title, body=markup(main), styles=[styles, chart_styles()])


def _shown(value: object) -> str:
    """Text from a results file, on one line and not endless."""
    text = one_line(str(value))
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."


def _when(results: Results) -> str:
    backends = list(dict.fromkeys(row.backend for row in results.rows))
    state = "" if results.complete else ", and interrupted"
    return _shown(f"{len(results.rows)} rows of {len(backends)} backends, finished {results.created}{state}.")


def _charts(results: Results) -> Iterator[Element]:
    panels = make_panels(results)
    if not panels:
        return
    yield element("h2", "Curves")
    yield element("div", *map(_figure, panels), class_="charts")
    yield element("ul", *_curve_legend(panels), class_="legend")
    if len(lengths := panels[0].lengths) <= MOST_MARKS:
        marks = (element("li", mark_sample(n), f"{length:,} snippets") for n, length in enumerate(lengths))
        yield element("ul", *marks, class_="legend")


def _figure(panel: Panel) -> Element:
    bars = f" Bars: {panel.bars}." if panel.bars else ""
    caption = element("figcaption", f"{panel.y.label} over {panel.x.label}.{bars}", class_="faint")
    return element("figure", element("h3", panel.title), panel_chart(panel), caption)


def _curve_legend(panels: Sequence[Panel]) -> Iterator[Element]:
    return (element("li", line_sample(entry), _shown(entry.name)) for entry in legend_entries(panels))


def _differences(results: Results) -> Iterator[Element]:
    """Charts of the changes of mAP that are not the same by definition."""
    kinds: dict[str, Callable[[Row], MapDifference | None]] = {
        "Change of mAP from ort-fp32 at the same length": lambda r: None if r.backend == "ort-fp32" else r.map_change,
        "Change of mAP from the first length": lambda row: row.length_change,
        "Change of mAP from each video alone": lambda row: row.alone_change,
    }
    figures = []
    for title, get in kinds.items():
        changes = [(_shown(row.title)[:_LONGEST_TITLE], get(row)) for row in results.rows]
        if known := [(name, change) for name, change in changes if change is not None]:
            figures.append(_difference_figure(title, known))
    if figures:
        yield element("h2", "What these videos can tell")
        yield element(
            "p",
            "A line is the 95 % interval of a change, from a paired bootstrap over the videos. Where it crosses 0, the "
            "change may be chance.",
        )
        yield element("div", *figures, class_="charts")


def _difference_figure(title: str, changes: Sequence[tuple[str, MapDifference]]) -> Element:
    ends = [end for _, change in changes for end in (change.points, change.low, change.high) if end is not None]
    label = "percent points of average mAP"
    axis = linear_axis(label, [0.0, *ends], least=_NARROWEST, whole=(-100, 100))
    chances = [change.may_be_chance for _, change in changes if change.low is not None and not change.is_none]
    caption = f"{sum(map(bool, chances))} of {len(chances)} may be chance."
    if unknown := sum(change.low is None for _, change in changes):
        caption = f"{unknown} without intervals, because an older version measured them: they may all be chance."
    return element(
        "figure",
        element("h3", title),
        difference_chart(changes, title, axis),
        element("figcaption", caption, class_="faint"),
    )


def _table(table: ReportTable) -> Element:
    headers, lines = [*map(_shown, table.headers)], [[*map(_shown, line)] for line in table.lines]
    return scrolling_table(table.caption, headers, lines, left=table.left)


def _conditions(results: Results) -> Iterator[Element]:
    groups: Mapping[str, Mapping[str, Any]] = {
        "Machine": results.machine,
        "Versions": results.versions,
        "Protocol": {**results.protocol, "bundle_sha256": results.bundle_sha256},
    }
    for title, content in groups.items():
        fields = [part for name, value in content.items() for part in _field(name, value)]
        listed = element("dl", *fields, class_="conditions")
        yield element("details", element("summary", title), listed, **({"open": ""} if title == "Machine" else {}))


def _field(name: str, value: Any) -> Iterator[Element]:
    if isinstance(value, Mapping) and value:
        for inner, part in value.items():
            yield from _field(f"{name}, {inner}", part)
        return
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else "none" if value is None else str(value)
    yield element("dt", _shown(name))
    yield element("dd", _shown(text) or "none")


def _samples(results: Results) -> Iterator[Element]:
    stages = sum(len(row.stages) for row in results.rows)
    most = min(MOST_SAMPLES_OF_STAGE, MOST_SAMPLES // max(stages, 1))
    yield element(
        "p",
        f"Milliseconds in the order in which they were measured; a bar separates processes. Of a stage, at most {most} "
        "are shown; the JSON file of stale-bench -o has all.",
    )
    for row in results.rows:
        parts = [part for name, stage in row.stages.items() for part in _stage_samples(name, stage, most)]
        yield element("details", element("summary", _shown(row.title)), *parts, *_warm_up(row, most))


def _stage_samples(name: str, stage: Stage, most: int) -> Iterator[Element]:
    yield element("h3", f"{_shown(name)}, {stage.n} samples")
    parts, start = [], 0
    for count in stage.per_launch:
        parts.append(" ".join(f"{ms:.4g}" for ms in stage.samples_ms[start : min(start + count, most)]))
        start += count
        if start >= most:
            break
    yield element("p", " | ".join(parts) + (" ..." if stage.n > most else ""), class_="samples")


def _warm_up(row: Row, most: int) -> Iterator[Element]:
    if row.warmup_ms and most:
        yield element("h3", f"warm-up, {len(row.warmup_ms)} samples")
        yield element("p", " ".join(f"{ms:.4g}" for ms in row.warmup_ms[:most]), class_="samples")
