"""Comparing two runs of the benchmark that were made under the same conditions."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from stale_bench.reporting.benchmark_results import PEAK, Results, Row, launch_medians
from stale_bench.reporting.report_tables import draw_table
from stale_bench.reporting.tables import milliseconds
from stale_bench.statistics.map_difference import MapDifference, map_difference
from stale_runtime.errors import BenchmarkError
from stale_runtime.system.text import one_line

EFFORT = frozenset(
    {"budget_s", "launches", "rounds", "turn_ms", "confidence", "stages", "ratio", "baseline", "footage"}
)
"""Fields of the protocol that affect how precise times are, how they are shown or which rows there are, but not the
times themselves."""


class Difference(NamedTuple):
    """A condition in which two runs differ."""

    field: str
    old: Any
    new: Any


class Change(NamedTuple):
    """A row that both runs have."""

    old: Row
    new: Row
    same_draws: bool
    """Whether mAP was computed over the same resamples of the same videos."""

    @property
    def map_difference(self) -> MapDifference | None:
        """New mAP minus old; its interval is known if both runs computed mAP over the same resamples."""
        old, new = self.old, self.new
        if old.map is None or new.map is None:
            return None
        draws = (new.map_resamples, old.map_resamples) if self.same_draws else (None, None)
        return map_difference(new.map["average"], old.map["average"], *draws)

    @property
    def time_ratio(self) -> float | None:
        """New time, of a forward pass or video, divided by the old one."""
        old, new = (row.main for row in (self.old, self.new))
        return None if old is None or new is None else new.median_ms / old.median_ms

    @property
    def is_clear(self) -> bool:
        """Whether each launch of one run was faster than all launches of the other."""
        old, new = (row.main for row in (self.old, self.new))
        if old is None or new is None:
            return False
        before, after = launch_medians(old), launch_medians(new)
        return max(before) < min(after) or max(after) < min(before)

    @property
    def ratios_agree(self) -> bool | None:
        """Whether each run's ratio to the baseline lies in the other's interval; None if one has no interval."""
        old, new = self.old.ratio, self.new.ratio
        if old is None or new is None or old.baseline != new.baseline or self.old.is_baseline:
            return None
        if old.low is None or old.high is None or new.low is None or new.high is None:
            return None
        return old.low <= new.median <= old.high and new.low <= old.median <= new.high


def compare(old: Results, new: Results, *, despite: Collection[str] = ()) -> list[Change]:
    """Pair the rows of two runs that were made under the same conditions.

    Args:
        old: a run.
        new: a later run.
        despite: conditions that may differ, by the names of ``differences`` or their first part.

    Raises:
        BenchmarkError: another condition differs, or the runs have no row in common.
    """
    unwanted = [d for d in differences(old, new) if not any(_is_within(d.field, name) for name in despite)]
    if unwanted:
        first, others = unwanted[0], len(unwanted) - 1
        more = f" (and {others} more: {', '.join(d.field for d in unwanted[1:6])})" if others else ""
        raise BenchmarkError(
            f"these runs cannot be compared: {first.field} is {_shorten(first.old)} in the old and "
            f"{_shorten(first.new)} in the new{more}; measure again under the same conditions, or give "
            f"--despite {first.field}"
        )
    later = {row.conditions: row for row in new.rows}
    draws = old.protocol.get("map_draws")
    same_draws = draws is not None and draws == new.protocol.get("map_draws")
    changes = [Change(row, later[row.conditions], same_draws) for row in old.rows if row.conditions in later]
    if not changes:
        raise BenchmarkError("these runs cannot be compared: they have no backend and length in common")
    return changes


def differences(old: Results, new: Results) -> Iterator[Difference]:
    """Conditions in which two runs differ. One that only one run has, such as the version of a library, is ignored."""
    before, after = (dict(_conditions(run)) for run in (old, new))
    for field, value in before.items():
        if value is not None and after.get(field) is not None and value != after[field]:
            yield Difference(field, value, after[field])


def comparison_table(changes: list[Change], style: str) -> str:
    """A table of changes.

    Args:
        changes: what ``compare`` returned.
        style: a table format of ``tabulate``.
    """
    conditions = ("backend", "N", "mode", "T")
    headers = (*conditions, "old ms", "new ms", "new / old", "", "old MB", "new MB", "mAP change", "ratios agree")
    lines = [_line(change) for change in changes]
    shown = [n for n in range(len(headers)) if any(line[n] for line in lines)]
    table = draw_table([[line[n] for n in shown] for line in lines], [headers[n] for n in shown], style)
    agreeing = [change.ratios_agree for change in changes if change.ratios_agree is not None]
    notes = ["clear: each process of one run was faster than all processes of the other."]
    if agreeing:
        notes.append(f"{sum(agreeing)} of {len(agreeing)} ratios lie within one another's intervals.")
    notes += _map_notes([change.map_difference for change in changes if change.map_difference is not None])
    return table + "\n\n" + "\n".join(notes) + "\n"


def _map_notes(differences: list[MapDifference]) -> list[str]:
    if not differences:
        return []
    if any(difference.low is None for difference in differences):
        return [
            "mAP change: percent points, without an interval, because an older version measured a run, or on other "
            "videos; with few videos, even a change of a whole point may be chance."
        ]
    chances = sum(bool(difference.may_be_chance) for difference in differences)
    return [
        "mAP change: percent points, with the 95% interval from a paired bootstrap over the videos; "
        f"{chances} of {len(differences)} contain 0, and may be chance."
    ]


def _line(change: Change) -> list[str]:
    old, new, ratio = change.old, change.new, change.time_ratio
    times = (milliseconds(row.main.median_ms) if row.main is not None else "FAILED" for row in (old, new))
    memory = ("" if row.peak_rss_mb is None else f"{row.peak_rss_mb:.0f}" for row in (old, new))
    agree = change.ratios_agree
    return [
        one_line(old.backend)[:80],
        "" if old.video is None else str(old.video.snippets),
        "" if old.video is None else one_line(old.video.mode)[:80],
        str(old.length),
        *(text or "" for text in times),
        "" if ratio is None else f"{ratio:.3f}",
        "clear" if change.is_clear else "",
        *memory,
        "" if change.map_difference is None else str(change.map_difference),
        "" if agree is None else "yes" if agree else "no",
    ]


def _conditions(run: Results) -> Iterator[tuple[str, Any]]:
    protocol = {name: value for name, value in run.protocol.items() if name not in EFFORT}
    machine = {name: value for name, value in run.machine.items() if name != PEAK}  # measured, so never the same
    groups: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("machine", machine),
        ("versions", run.versions),
        ("protocol", protocol),
    )
    for group, content in groups:
        yield from ((f"{group}.{name}", value) for name, value in content.items())
    yield "bundle_sha256", run.bundle_sha256


def _is_within(field: str, name: str) -> bool:
    return field == name or field.startswith(f"{name}.")


def _shorten(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
