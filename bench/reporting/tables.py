"""Results as tables to read, and as CSV for spreadsheets."""

import csv
import io
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from statistics import median
from typing import Any

from stale_bench.reporting.benchmark_results import Ratio, Results, Row
from stale_bench.reporting.peak_share import peak_notes, peak_share, read_peaks
from stale_bench.reporting.report_tables import Column, ReportText, draw_table, table_of
from stale_bench.reporting.rows import STAGES
from stale_bench.soak.rounds import LONGEST, SHORTEST
from stale_bench.soak.soak import Soak
from stale_bench.statistics.map_difference import MapDifference

MAP_COLUMNS = ("0.50", "0.75", "0.95", "average")


def results_report(results: Results) -> ReportText:
    """Tables of backends over T, with notes on how they were measured."""
    return ReportText(
        tables=(
            table_of(results.rows, _main_columns(results), "Speed, memory and mAP"),
            table_of(results.rows, _stage_columns(), "Stages, median ms"),
        ),
        notes=tuple(_notes(results)),
    )


def results_csv(results: Results) -> str:
    """Comma-separated values: a line for each backend and length, always with the same columns."""
    columns = _csv_columns()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([get(row) for get in columns.values()] for row in results.rows)
    return buffer.getvalue()


def soak_table(soak: Soak, style: str) -> str:
    """A table of the first and the last tenth of a soak, with notes on what else it measured.

    Args:
        soak: what was measured.
        style: a table format of ``tabulate``.
    """
    tenth = max(len(soak.samples) // 10, 1)
    wall, cpu = soak.throughput(attrgetter("wall_s")), soak.throughput(attrgetter("cpu_s"))
    memory = [median(sample.rss_mb for sample in part) for part in (soak.samples[:tenth], soak.samples[-tenth:])]
    slope, low, high = (1e6 * value for value in soak.memory_trend())  # KB a thousand videos
    rows = [
        ("videos a second", f"{wall.first:.1f}", f"{wall.last:.1f}", f"{wall.ratio - 1:+.1%}"),
        ("videos a CPU second", f"{cpu.first:.1f}", f"{cpu.last:.1f}", f"{cpu.ratio - 1:+.1%}"),
        ("resident memory, MB", *(f"{held:.1f}" for held in memory), f"{memory[1] / memory[0] - 1:+.1%}"),
    ]
    held = soak.samples[-1].descriptors
    notes = [
        f"{soak.videos:,} videos of {SHORTEST} to {LONGEST:,} snippets in {len(soak.samples)} rounds of {soak.mix}.",
        f"Memory after the first tenth: {slope:+.1f} KB per 1,000 videos, 99% interval {low:+.1f} to {high:+.1f}.",
        f"Open descriptors: {soak.descriptors} before, {held} after. "
        f"Videos with other detections than in the first round: {soak.changed}.",
    ]
    if (speed := soak.speed_beside_new()) is not None:
        text = f"Speed at the end, compared in turns with {len(soak.turns)} new processes: {speed.median - 1:+.1%}"
        if speed.low is not None and speed.high is not None:
            text += f", 99% interval {speed.low - 1:+.1%} to {speed.high - 1:+.1%}"
        notes.append(f"{text}.")
    return "\n\n".join([draw_table(rows, ("", "first tenth", "last tenth", "change"), style), "\n".join(notes)]) + "\n"


def milliseconds(value: float | None) -> str | None:
    """Milliseconds with three significant digits, or with all digits before the point."""
    if value is None:
        return None
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def speedup(ratio: Ratio) -> str:
    """How many times as fast as the baseline, with its interval if there is one."""
    interval = ""
    if ratio.low is not None and ratio.high is not None:
        interval = f" [{_three_digits(1 / ratio.high)}, {_three_digits(1 / ratio.low)}]"
    return f"{_three_digits(1 / ratio.median)}x{interval}"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def thread_count(results: Results) -> str:
    """The number of threads as text."""
    threads = results.protocol["threads"]
    return f"{threads} thread{'s' * (threads != 1)}"


def describe_setup(results: Results) -> str:
    """Threads, CPU, classes and features in one sentence."""
    protocol, machine = results.protocol, results.machine
    cpus = ", ".join(map(str, protocol["cpus"]))
    where = f"CPU {cpus} of {machine['cpu']}" if cpus else f"any CPU of {machine['cpu']} (processes cannot be pinned)"
    return f"{thread_count(results)} on {where}; {results.rows[0].classes} classes; features: {protocol['inputs']}."


def warning_notes(results: Results) -> list[str]:
    """A line for each thing that makes a row less certain."""
    return [f"warning: {row.title}: {text}" for row in results.rows for text in row.warnings]


def failure_notes(results: Results) -> list[str]:
    """A line for each row that could not be measured to the end."""
    return [f"FAILED: {row.title}: {row.error}" for row in results.rows if row.error is not None]


def change_notes(results: Results) -> list[str]:
    """What a change of mAP is relative to, and how many of the changes may be chance."""
    kinds: list[tuple[str, list[MapDifference | None]]] = [
        ("change: average mAP minus that of ort-fp32 at the same length", [row.map_change for row in results.rows]),
        (f"from T={results.rows[0].length}: minus the same backend's there", [r.length_change for r in results.rows]),
        ("from alone: minus that of each alone", [row.alone_change for row in results.rows]),
    ]
    known = [(text, [change for change in changes if change is not None]) for text, changes in kinds]
    shown = [(text, changes) for text, changes in known if changes]
    if not shown:
        return []
    notes = [f"In percent points, {'; '.join(text for text, _ in shown)}."]
    chances = [
        change.may_be_chance
        for _, changes in shown
        for change in changes
        if change.low is not None and not change.is_none
    ]
    if unknown := [change for _, changes in shown for change in changes if change.low is None]:
        notes.append(
            f"{len(unknown)} changes have no interval, because an older version measured them; with few videos, even a "
            "change of a whole point may be chance."
        )
    if chances:
        notes.append(
            f"In brackets the 95% interval, from a paired bootstrap over the videos. {sum(map(bool, chances))} of "
            f"{len(chances)} changes are marked noise: their interval contains 0, so these videos cannot tell whether "
            "mAP rises or falls."
        )
    return notes


def missing_notes(results: Results) -> list[str]:
    """A line for each backend that cannot run here, and for each feature file that cannot be used."""
    notes = [f"not available: {name}: {reason}" for name, reason in results.unavailable.items()]
    if left_out := results.protocol.get("inputs_left_out"):
        is_evaluated = results.protocol["evaluated_videos"] is not None and not results.protocol.get("footage")
        consequence = "; for mAP, nothing was found in them" if is_evaluated else ""
        notes.append(f"{len(left_out)} feature files were left out{consequence}:")
        notes += [f"left out: {name}: {reason}" for name, reason in left_out.items()]
    return notes


def _main_columns(results: Results) -> list[Column]:
    baseline, peaks = results.protocol.get("baseline"), read_peaks(results)
    return [
        Column("backend", lambda row: row.backend),
        Column("T", lambda row: str(row.length)),
        Column("", lambda row: "FAILED" if row.error is not None else None),
        Column("forward ms", _stage_text("forward", "median_ms")),
        Column("p90", _stage_text("forward", "p90_ms")),
        Column("p99", _stage_text("forward", "p99_ms")),
        Column("end to end ms", _stage_text("end_to_end", "median_ms")),
        Column(f"faster than {baseline}", ratio_text),
        Column("peak MB", lambda row: format_number(row.peak_rss_mb, ".0f")),
        Column("rise MB", lambda row: format_number(row.rss_rise_mb, ".0f")),
        Column("file MB", lambda row: format_number(row.file_mb, ".1f")),
        Column("GMACs", lambda row: format_number(row.gmacs, ".2f")),
        Column("int8", lambda row: None if row.int8_share is None else f"{row.int8_share:.0%}"),
        Column("of peak", lambda row: format_number(peak_share(row, peaks), ".0%")),
        *map_columns(),
        Column("exact", recomputed_text(results)),
        Column("change", lambda row: difference_text(row.map_change)),
        Column(f"from T={results.rows[0].length}", lambda row: difference_text(row.length_change)),
    ]


def difference_text(difference: MapDifference | None) -> str | None:
    """A difference of mAP with its interval, or None."""
    return None if difference is None else str(difference)


def recomputed_text(results: Results) -> Callable[[Row], str | None]:
    """A function for how many of the evaluated videos a row has computed exactly instead of approximately."""
    videos = results.protocol["evaluated_videos_with_features"]
    return lambda row: None if row.recomputed is None else f"{row.recomputed} of {videos}"


def map_columns() -> list[Column]:
    """MAP in percent, at some thresholds and on average."""
    return [Column(f"mAP {'' if key == 'average' else '@'}{key}", _map_text(key)) for key in MAP_COLUMNS]


def _stage_columns() -> list[Column]:
    return [
        Column("backend", lambda row: row.backend),
        Column("T", lambda row: str(row.length)),
        *(Column(name.replace("_", " "), _stage_text(name, "median_ms")) for name in STAGES if name != "video"),
        Column("n", lambda row: None if row.main is None else str(row.main.n)),
    ]


def _stage_text(name: str, field: str) -> Callable[[Row], str | None]:
    return lambda row: milliseconds(_stage_value(row, name, field))


def _map_text(key: str) -> Callable[[Row], str | None]:
    return lambda row: f"{100 * row.map[key]:.2f}" if row.map is not None and key in row.map else None


def ratio_text(row: Row) -> str | None:
    """How many times as fast as the baseline a row is; 1 for the baseline itself, None if that is not known."""
    if row.ratio is None:
        return None
    return "1" if row.is_baseline else speedup(row.ratio)


def format_number(value: float | None, form: str) -> str | None:
    """A number in a format of Python's, or None."""
    return None if value is None else format(value, form)


def _notes(results: Results) -> list[str]:
    protocol = results.protocol
    notes = [describe_setup(results)]
    if any(row.ratio is not None and row.ratio.low is not None for row in results.rows):
        notes.append(
            f"Faster: the forward time of {protocol['baseline']} divided by the backend's, with its "
            f"{protocol['confidence']:.0%} interval."
        )
    notes += peak_notes(results)
    if protocol["evaluated_videos"] is not None:
        notes.append(
            f"mAP in percent, over {protocol['evaluated_videos']} videos of which "
            f"{protocol['evaluated_videos_with_features']} have features."
        )
    if any(row.recomputed is not None for row in results.rows):
        notes.append("Exact: videos that an approximate backend was too far off for, so that it computed them exactly.")
    notes += change_notes(results)
    notes += missing_notes(results)
    notes += failure_notes(results)
    notes += warning_notes(results)
    if not results.complete:
        notes.append("Interrupted: this is what was measured before that.")
    return notes


def _csv_columns() -> dict[str, Callable[[Row], Any]]:
    columns: dict[str, Callable[[Row], Any]] = {
        name: attrgetter(name) for name in ("backend", "length", "batch", "threads", "classes")
    }
    columns["snippets"] = lambda row: row.video and row.video.snippets
    columns["mode"] = lambda row: row.video and row.video.mode
    columns["ms_per_1000_snippets"] = attrgetter("ms_per_1000_snippets")
    for name in STAGES:
        for key in ("median_ms", "p90_ms", "p99_ms", "n"):
            columns[f"{name}_{key}"] = partial(_stage_value, name=name, key=key)
    for key in ("baseline", "median", "low", "high"):
        columns[f"ratio_{key}"] = partial(_ratio_value, key=key)
    columns |= {name: attrgetter(name) for name in ("peak_rss_mb", "rss_rise_mb", "file_mb", "gmacs", "int8_share")}
    columns["recomputed"] = attrgetter("recomputed")
    for key in MAP_COLUMNS:
        columns[f"map_{key}"] = partial(_map_value, key=key)
    columns["map_alone_average"] = lambda row: row.video and row.video.map_alone and row.video.map_alone["average"]
    for name, get in _DIFFERENCES.items():
        for key, field in (("", "points"), ("_low", "low"), ("_high", "high")):
            columns[f"{name}{key}"] = partial(_difference_value, get=get, field=field)
    columns["error"] = attrgetter("error")
    columns["warnings"] = lambda row: "; ".join(row.warnings)
    return columns


def _stage_value(row: Row, name: str, key: str) -> float | None:
    return getattr(row.stages[name], key) if name in row.stages else None


def _ratio_value(row: Row, key: str) -> float | str | None:
    return None if row.ratio is None else getattr(row.ratio, key)


def _map_value(row: Row, key: str) -> float | None:
    return None if row.map is None else row.map.get(key)


_DIFFERENCES: dict[str, Callable[[Row], MapDifference | None]] = {
    "map_change": attrgetter("map_change"),
    "length_change": attrgetter("length_change"),
    "alone_change": attrgetter("alone_change"),
}


def _difference_value(row: Row, get: Callable[[Row], MapDifference | None], field: str) -> float | None:
    """As a share, like mAP itself."""
    difference = get(row)
    points = None if difference is None else getattr(difference, field)
    return None if points is None else points / 100
