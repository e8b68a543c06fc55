import csv
import io
from dataclasses import replace

import pytest

from stale_bench.reporting.tables import milliseconds, results_csv, results_table, speedup
from tests.bench.helpers import make_results, make_row, ratio

FP32 = make_row(ratio=ratio(1.0, 1.0, 1.0), peak_rss_mb=100.4, gmacs=1.234, int8_share=0.0)
INT8 = make_row(((2.0, 2.5),), backend="ort-int8", ratio=ratio(0.5, 0.4, 0.6), int8_share=0.75, warnings=("too loud",))
MAP = {"average": 0.5, "0.50": 0.7, "0.75": 0.4, "0.95": 0.1}


def test_the_table_shows_what_was_measured_and_no_column_of_nothing() -> None:
    lines = results_table(make_results(FP32, INT8), "simple").splitlines()
    assert lines[0].split("  ")[0] == "backend"
    for header in ("forward ms", "faster than ort-fp32", "peak MB", "GMACs", "int8"):
        assert header in lines[0]
    for header in ("p90", "end to end", "mAP", "change", "FAILED"):
        assert header not in lines[0]
    assert lines[2].split() == ["ort-fp32", "100", "5.00", "1", "100", "1.23", "0%"]
    assert lines[3].split() == ["ort-int8", "100", "2.25", "2x", "[1.67,", "2.5]", "75%"]


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
    text = results_table(make_results(FP32, INT8, dead, unavailable={"torch-int8": "needs torch"}), "simple")
    assert "1 thread on CPU 1 of Abacus 3000; 3 classes; features: random." in text
    assert "its 99% interval" in text
    assert "warning: ort-int8 T=100: too loud" in text
    assert "FAILED: torch-fp32 T=100: killed" in text
    assert "not available: torch-int8: needs torch" in text
    assert "Interrupted" not in text
    assert "Interrupted" in results_table(replace(make_results(FP32), complete=False), "simple")


def test_map_is_in_percent_with_its_change() -> None:
    text = results_table(make_results(replace(INT8, map=MAP, map_change=-0.0123), FP32), "github")
    assert "| mAP @0.50 |" in text.replace("   ", " ").replace("  ", " ")
    row = next(line for line in text.splitlines() if "ort-int8" in line)
    assert [cell.strip() for cell in row.split("|")][-6:-1] == ["70.00", "40.00", "10.00", "50.00", "-1.23"]


def test_csv_has_a_line_a_row_and_the_same_columns_always() -> None:
    with_map = make_results(replace(INT8, map=MAP), FP32)
    rows = list(csv.DictReader(io.StringIO(results_csv(with_map))))
    assert rows[0]["map_0.75"] == "0.4"
    assert rows[1]["map_0.75"] == ""
    assert rows[0]["forward_median_ms"] == "2.25"
    assert rows[0]["forward_n"] == "2"
    assert rows[0]["decode_n"] == ""
    assert rows[0]["ratio_high"] == "0.6"
    assert results_csv(make_results(FP32)).splitlines()[0] == results_csv(with_map).splitlines()[0]


@pytest.mark.parametrize(
    ("value", "text"), [(None, None), (0.01234, "0.01"), (3.456, "3.46"), (12.34, "12.3"), (1234.5, "1234")]
)
def test_milliseconds_have_the_digits_that_count(value: float | None, text: str | None) -> None:
    assert milliseconds(value) == text
