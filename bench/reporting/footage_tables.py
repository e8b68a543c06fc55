"""The table over the length of videos: whole videos against windows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from stale_bench.reporting.benchmark_results import Results, Row
from stale_bench.reporting.report_tables import Column, ReportText, table_of
from stale_bench.reporting.tables import (
    change_notes,
    describe_setup,
    difference_text,
    failure_notes,
    format_number,
    map_columns,
    milliseconds,
    missing_notes,
    ratio_text,
    warning_notes,
)

FEWEST_DRAWN = 20
"""Videos below which a bootstrap over them is too narrow to be shown without a warning."""
ALONE = "each alone"
"""Shown as the mode of rows with the mAP of the videos that were joined."""


def footage_report(results: Results) -> ReportText:
    """Time, memory and mAP of whole videos and of windows, over the number of snippets, with notes.

    Args:
        results: of a request with snippets.
    """
    rows = [*results.rows, *_alone_rows(results)]
    table = table_of(rows, _columns(results), "Time, memory and mAP over the length of videos", left=2)
    return ReportText(tables=(table,), notes=tuple(_notes(results)))


def _columns(results: Results) -> list[Column]:
    return [
        Column("backend", lambda row: row.backend),
        Column("mode", lambda row: None if row.video is None else row.video.mode),
        Column("N", lambda row: None if row.video is None else str(row.video.snippets)),
        Column("T", lambda row: str(row.length) if row.video is None or row.video.mode == "whole" else "auto"),
        Column("", lambda row: "FAILED" if row.error is not None else None),
        Column("video ms", lambda row: None if row.main is None else milliseconds(row.main.median_ms)),
        Column("p90", lambda row: None if row.main is None else milliseconds(row.main.p90_ms)),
        Column("ms per 1000 snippets", lambda row: milliseconds(row.ms_per_1000_snippets)),
        Column(f"faster than {results.protocol.get('baseline')}", ratio_text),
        Column("peak MB", lambda row: format_number(row.peak_rss_mb, ".0f")),
        Column("rise MB", lambda row: format_number(row.rss_rise_mb, ".0f")),
        *map_columns(),
        Column("change", lambda row: difference_text(row.map_change)),
        Column("from alone", lambda row: difference_text(row.alone_change)),
    ]


def _alone_rows(results: Results) -> Iterator[Row]:
    """A row for each backend, with the mAP of the videos that were joined; N is how many snippets they have on average.

    It is the same for each N, because each video is used once.
    """
    joined = next(iter(results.protocol["footage"].values()))
    mean = max(round(sum(joined) / (results.protocol["evaluated_videos"] or 1)), 1)
    first = {row.backend: row for row in reversed(results.rows) if row.video is not None and row.video.map_alone}
    for row in reversed(first.values()):
        assert row.video is not None
        video = replace(row.video, snippets=mean, mode=ALONE, map_alone=None, alone_change=None)
        yield replace(
            row, video=video, stages={}, ratio=None, peak_rss_mb=None, rss_rise_mb=None, map=row.video.map_alone,
            map_change=None, error=None,
        )  # fmt: skip


def _notes(results: Results) -> Iterator[str]:
    protocol = results.protocol
    yield describe_setup(results)
    yield (
        "whole: a video of N snippets, resampled to T; T = N is what the original does. windows: the default of "
        "stale-run, which is window by window for long videos."
    )
    yield (
        "Time: from a feature file to detections, with prompts that are encoded; of upstream-*, whose weights are "
        "random, only the forward pass."
    )
    if any(row.ratio is not None for row in results.rows):
        yield (
            f"Faster: the time of {protocol['baseline']} on a whole video at T = N, divided by the row's, with its "
            f"{protocol['confidence']:.0%} interval. Longer videos than the network takes at once have no such time."
        )
    if protocol["evaluated_videos"] is not None or "joined" in protocol["inputs"]:
        yield from (_describe_joined(int(N), lengths) for N, lengths in protocol["footage"].items())
    if protocol["evaluated_videos"] is not None:
        yield (
            f"mAP in percent, over {protocol['evaluated_videos']} videos, each of which is in one joined video. "
            f"{ALONE}: these videos as they are, by default."
        )
    yield from change_notes(results)
    if protocol["evaluated_videos"] is not None:
        few = [f"{len(lengths)} for N={N}" for N, lengths in protocol["footage"].items() if len(lengths) < FEWEST_DRAWN]
        if few:
            yield f"Intervals over fewer than {FEWEST_DRAWN} joined videos ({', '.join(few)}) are too narrow."
    yield from missing_notes(results)
    yield from failure_notes(results)
    yield from warning_notes(results)
    if not results.complete:
        yield "Interrupted: this is what was measured before that."


def _describe_joined(N: int, lengths: Sequence[int]) -> str:
    complete = [length for length in lengths if length >= N]
    rest = [length for length in lengths if length < N]
    text = f"N={N}: {len(complete)} joined videos of {min(complete)} to {max(complete)} snippets"
    return text + (f"; the {rest[0]} that are left make one more, which is not timed." if rest else ".")
