import csv
import io
from dataclasses import replace

import pytest

from stale_bench.reporting.benchmark_results import PEAK, Results
from stale_bench.reporting.report_tables import draw_report
from stale_bench.reporting.tables import milliseconds, results_csv, results_report, speedup
from stale_bench.statistics.map_difference import MapDifference
from tests.bench.helpers import make_results, make_row, ratio

FP32 = make_row(ratio=ratio(1.0, 1.0, 1.0), peak_rss_mb=100.4, gmacs=1.234, int8_share=0.0)
INT8 = make_row(((2.0, 2.5),), backend="ort-int8", ratio=ratio(0.5, 0.4, 0.6), int8_share=0.75, warnings=("too loud",))
CHANGE = MapDifference(points=-1.23, low=-2.5, high=0.04)
MAP = {"average": 0.5, "0.50": 0.7, "0.75": 0.4, "0.95": 0.1}


def drawn(results: Results, style: str) -> str:
    return draw_report(results_report(results), style)


def test_the_table_shows_what_was_measured_and_no_column_of_nothing() -> None:
    lines = drawn(make_results(FP32, INT8), "simple").splitlines()
    assert lines[0].split("  ")[0] == "backend"
    for header in ("forward ms", "faster than ort-fp32", "peak MB", "GMACs", "int8"):
        assert header in lines[0]
    for header in ("p90", "end to end", "mAP", "change", "FAILED"):
        assert header not in lines[0]
    assert lines[2].split() == ["ort-fp32", "100", "5.00", "1", "100", "1.23", "0%"]
    assert lines[3].split() == ["ort-int8", "100", "2.25", "2x", "[1.67,", "2.5]", "75%"]


def test_with_the_machine_s_peak_the_table_says_how_near_each_comes() -> None:
    machine = {"cpu": "Abacus 3000", PEAK: {"fp32": 1000.0, "int8": 4000.0}}
    lines = drawn(make_results(FP32, INT8, machine=machine), "simple").splitlines()
    assert lines[0].endswith("of peak")
    assert lines[2].split()[-1] == "25%"  # 1.234 GMACs in 5 ms
    assert any(line.startswith("Of peak:") for line in lines)


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ((0.5, 0.4, 0.6), "2x [1.67, 2.5]"),
        ((0.00369, 0.0035, 0.004), "271x [250, 286]"),
        ((0.0005, None, None), "2000x"),
        ((2.44, 2.2, 2.6), "0.41x [0.385, 0.455]"),
    ],
)
def test_a_speedup_is_the_inverse_of_the_ratio_of_times_and_so_is_its_interval(
    times: tuple[float, float | None, float | None], text: str
) -> None:
    assert speedup(ratio(*times)) == text


def test_the_notes_say_how_it_was_measured_and_what_is_wrong() -> None:
    dead = make_row((), backend="torch-fp32", stages={}, error="killed")
    text = drawn(make_results(FP32, INT8, dead, unavailable={"torch-int8": "needs torch"}), "simple")
    assert "1 thread on CPU 1 of Abacus 3000; 3 classes; features: random." in text
    assert "its 99% interval" in text
    assert "warning: ort-int8 T=100: too loud" in text
    assert "FAILED: torch-fp32 T=100: killed" in text
    assert "not available: torch-int8: needs torch" in text
    assert "Interrupted" not in text
    assert "Interrupted" in drawn(replace(make_results(FP32), complete=False), "simple")


def test_map_is_in_percent_with_its_change() -> None:
    text = drawn(make_results(replace(INT8, map=MAP, map_change=CHANGE), FP32), "github")
    assert "| mAP @0.50 |" in text.replace("   ", " ").replace("  ", " ")
    row = next(line for line in text.splitlines() if "ort-int8" in line)
    assert [cell.strip() for cell in row.split("|")][-6:-1] == [
        "70.00",
        "40.00",
        "10.00",
        "50.00",
        "-1.23 [-2.50, +0.04] noise",
    ]


def test_beside_map_stands_how_many_videos_an_approximation_left_to_the_exact_network() -> None:
    protocol = {**make_results(FP32).protocol, "evaluated_videos": 9, "evaluated_videos_with_features": 8}
    fast = replace(INT8, backend="ort-fast", map=MAP, recomputed=0)
    lines = drawn(make_results(fast, replace(FP32, map=MAP), protocol=protocol), "github").splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines[:4]]
    column = cells[0].index("exact")
    assert [line[column] for line in cells[2:]] == ["0 of 8", ""]
    assert any(line.startswith("Exact: ") for line in lines)


def test_the_notes_say_how_many_changes_may_be_chance() -> None:
    clear = MapDifference(points=-2.0, low=-3.0, high=-1.0)
    nothing = MapDifference(points=0.0, low=0.0, high=0.0)
    rows = [
        replace(row, map=MAP, map_change=change) for row, change in ((FP32, nothing), (INT8, CHANGE), (INT8, clear))
    ]
    text = drawn(make_results(*rows, replace(rows[1], length=200, length_change=clear)), "simple")
    assert "change: average mAP minus that of ort-fp32 at the same length; from T=100: minus the same backend's" in text
    assert "2 of 4 changes are marked noise: their interval contains 0" in text
    assert "no interval" not in text
    old = MapDifference(points=-0.6, low=None, high=None)
    text = drawn(make_results(replace(INT8, map=MAP, map_change=old)), "simple")
    assert "1 changes have no interval" in text
    assert "noise" not in text


def test_text_of_a_file_breaks_no_table() -> None:
    hostile = replace(INT8, backend="\x1b[2J\nort" + 1000 * "x", warnings=("\x1b[2J\nloud",))
    plain, broken = (drawn(make_results(row), "simple").splitlines() for row in (INT8, hostile))
    assert len(plain) == len(broken)
    assert all(map(str.isprintable, broken))
    assert max(map(len, broken[:3])) < 400


def test_csv_has_a_line_a_row_and_the_same_columns_always() -> None:
    with_map = make_results(replace(INT8, map=MAP), FP32)
    rows = list(csv.DictReader(io.StringIO(results_csv(with_map))))
    assert rows[0]["map_0.75"] == "0.4"
    assert rows[1]["map_0.75"] == ""
    assert rows[0]["forward_median_ms"] == "2.25"
    assert rows[0]["forward_n"] == "2"
    assert rows[0]["decode_n"] == ""
    assert rows[0]["ratio_high"] == "0.6"
    changed = make_results(replace(INT8, map=MAP, map_change=CHANGE))
    (row,) = csv.DictReader(io.StringIO(results_csv(changed)))
    assert [float(row[f"map_change{end}"]) for end in ("", "_low", "_high")] == pytest.approx([-0.0123, -0.025, 0.0004])
    assert (row["length_change"], row["alone_change_low"]) == ("", "")
    assert results_csv(make_results(FP32)).splitlines()[0] == results_csv(with_map).splitlines()[0]


@pytest.mark.parametrize(
    ("value", "text"), [(None, None), (0.01234, "0.01"), (3.456, "3.46"), (12.34, "12.3"), (1234.5, "1234")]
)
def test_milliseconds_have_the_digits_that_count(value: float | None, text: str | None) -> None:
    assert milliseconds(value) == text
