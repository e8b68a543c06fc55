from dataclasses import replace

import pytest

from stale_bench.reporting.benchmark_results import PEAK, Results
from stale_bench.reporting.compare import compare, comparison_table, differences
from stale_runtime.errors import BenchmarkError
from tests.bench.helpers import make_results, make_row, make_video_row, ratio

OLD = make_results(
    make_row(((4.0, 4.2), (4.1, 4.0)), ratio=ratio(1.0, 1.0, 1.0)),
    make_row(((2.0, 2.2), (2.1, 2.0)), backend="ort-int8", ratio=ratio(0.50, 0.45, 0.55), peak_rss_mb=90.0),
)


def changed(**changes: object) -> Results:
    return replace(OLD, **changes)  # type: ignore[arg-type]


def test_a_run_equals_itself() -> None:
    changes = compare(OLD, OLD)
    assert [change.time_ratio for change in changes] == [1, 1]
    assert not any(change.is_clear for change in changes)
    assert [change.ratios_agree for change in changes] == [None, True]
    assert "1 of 1 ratios lie within one another's intervals" in comparison_table(changes, "simple")


def test_peaks_are_measured_and_so_may_differ() -> None:
    before, after = (changed(machine={**OLD.machine, PEAK: {"fp32": peak}}) for peak in (90.0, 100.0))
    assert compare(before, after)


def test_rows_of_videos_are_paired_by_length_and_mode() -> None:
    whole, windows = make_video_row(300, "whole"), make_video_row(300, "windows", ratio=ratio(0.5, 0.4, 0.6))
    slower = replace(windows, stages=make_video_row(300, "windows", ((100.0,), (120.0,))).stages)
    old = make_results(whole, windows, make_video_row(200, "whole"))
    changes = compare(old, make_results(slower, whole))
    assert [(change.old, change.new) for change in changes] == [(whole, whole), (windows, slower)]
    assert [change.time_ratio for change in changes] == [1, 2]
    assert [change.is_clear for change in changes] == [False, True]
    assert [change.ratios_agree for change in changes] == [None, True]  # of the baseline's own windows, too
    lines = comparison_table(changes, "simple").splitlines()
    assert lines[0].split()[:4] == ["backend", "N", "mode", "T"]
    assert lines[3].split()[:7] == ["ort-fp32", "300", "windows", "100", "55.0", "110", "2.000"]
    with pytest.raises(BenchmarkError, match="no backend and length in common"):
        compare(OLD, replace(old, protocol=OLD.protocol))


def test_a_slower_run_is_clear_where_every_process_is_slower() -> None:
    slower = replace(OLD.rows[1], stages=make_row(((3.0, 3.0), (2.9, 3.1))).stages)
    overlapping = replace(OLD.rows[1], stages=make_row(((3.0, 3.0), (2.05, 2.05))).stages)
    assert compare(OLD, changed(rows=(slower,)))[0].is_clear
    assert not compare(OLD, changed(rows=(overlapping,)))[0].is_clear
    assert compare(OLD, changed(rows=(slower,)))[0].time_ratio == pytest.approx(3 / 2.05)


@pytest.mark.parametrize(
    ("new", "agree"), [((0.52, 0.49, 0.55), True), ((0.56, 0.50, 0.60), False), ((0.52, 0.51, 0.53), False)]
)
def test_ratios_agree_where_each_lies_in_the_other_s_interval(new: tuple[float, float, float], agree: bool) -> None:
    after = changed(rows=(replace(OLD.rows[1], ratio=ratio(*new)),))
    assert compare(OLD, after)[0].ratios_agree is agree


def test_ratios_to_other_baselines_are_not_compared() -> None:
    after = changed(rows=(replace(OLD.rows[1], ratio=ratio(0.5, 0.4, 0.6, baseline="torch-fp32")),))
    assert compare(OLD, after)[0].ratios_agree is None


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("machine.cpu", {"machine": {**OLD.machine, "cpu": "Abacus 4000"}}),
        ("machine.affinity", {"machine": {**OLD.machine, "affinity": [0]}}),
        ("versions.python", {"versions": {"python": "3.12"}}),
        ("bundle_sha256", {"bundle_sha256": "11ee"}),
        ("protocol.threads", {"protocol": {**OLD.protocol, "threads": 2}}),
        ("protocol.inputs", {"protocol": {**OLD.protocol, "inputs": "96 feature files"}}),
    ],
)
def test_runs_of_different_conditions_are_refused_by_name(field: str, changes: dict[str, object]) -> None:
    after = changed(**changes)
    assert [difference.field for difference in differences(OLD, after)] == [field]
    with pytest.raises(BenchmarkError, match=f"cannot be compared: {field} is .*--despite {field}"):
        compare(OLD, after)
    assert compare(OLD, after, despite=[field])
    assert compare(OLD, after, despite=[field.partition(".")[0]])


def test_the_effort_is_no_condition_and_nor_is_what_only_one_run_used() -> None:
    versions = {**OLD.versions, "torch": "2.13"}
    assert not list(differences(OLD, changed(protocol={**OLD.protocol, "budget_s": 9.0}, versions=versions)))


def test_runs_without_a_row_in_common_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="no backend and length in common"):
        compare(OLD, changed(rows=(make_row(length=200),)))


def test_a_failed_row_is_compared_as_failed() -> None:
    after = changed(rows=(replace(OLD.rows[1], stages={}, ratio=None, error="dead"),))
    (change,) = compare(OLD, after)
    assert change.time_ratio is None
    assert "FAILED" in comparison_table([change], "simple")


def test_the_change_of_map_is_in_points() -> None:
    before, after = (changed(rows=(replace(OLD.rows[1], map={"average": value}),)) for value in (0.50, 0.48))
    text = comparison_table(compare(before, after), "simple")
    assert "-2.00" in text
    assert "without an interval" in text


def test_the_change_of_map_has_an_interval_where_both_runs_drew_the_same_videos() -> None:
    draws = {"resamples": 3, "coverage": 0.95, "truth_sha256": "00"}
    protocol = {**OLD.protocol, "map_draws": draws}
    rows = [
        replace(OLD.rows[1], map={"average": average}, map_resamples=(average - 0.1, None, average + change))
        for average, change in ((0.50, 0.1), (0.48, 0.14))
    ]
    before, after = (changed(rows=(row,), protocol=protocol) for row in rows)
    (change,) = compare(before, after)
    assert change.map_difference is not None
    assert change.map_difference.low == pytest.approx(-2 + 0.025 * 4)
    assert change.map_difference.high == pytest.approx(2 - 0.025 * 4)
    text = comparison_table([change], "simple")
    assert "-2.00 [-1.90, +1.90] noise" in text
    assert "1 of 1 contain 0, and may be chance" in text


def test_maps_on_other_videos_have_no_interval_and_are_compared_on_demand_only() -> None:
    rows = (replace(OLD.rows[1], map={"average": 0.5}, map_resamples=(0.4, 0.6)),)
    before, after = (changed(rows=rows, protocol={**OLD.protocol, "map_draws": {"truth_sha256": n}}) for n in "01")
    with pytest.raises(BenchmarkError, match=r"protocol\.map_draws is .*--despite protocol\.map_draws"):
        compare(before, after)
    (change,) = compare(before, after, despite=["protocol.map_draws"])
    assert change.map_difference is not None
    assert change.map_difference.low is None


def test_a_backend_s_name_breaks_no_table() -> None:
    hostile = changed(rows=(replace(OLD.rows[1], backend="\x1b[2J\nort" + 1000 * "x"),))
    lines = comparison_table(compare(hostile, hostile), "simple").splitlines()
    plain = comparison_table(compare(OLD, changed(rows=(OLD.rows[1],))), "simple").splitlines()
    assert len(lines) == len(plain)
    assert all(line.isprintable() and len(line) < 200 for line in lines)
