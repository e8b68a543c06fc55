import csv
import io
from dataclasses import replace

import pytest

from stale_bench.reporting.benchmark_results import Results, Row
from stale_bench.reporting.footage_tables import footage_report
from stale_bench.reporting.report import render_report as render
from stale_bench.reporting.report_tables import draw_report
from stale_bench.statistics.map_difference import MapDifference
from tests.bench.helpers import make_results, make_row, make_video_row, ratio

ALONE = {"average": 0.8, "0.50": 0.9, "0.75": 0.7, "0.95": 0.5}
MAP = {"average": 0.6, "0.50": 0.7, "0.75": 0.6, "0.95": 0.3}
BY_UPSTREAM = ratio(1.0, 1.0, 1.0, "upstream-int8")
UPSTREAM = make_video_row(3000, "whole", ((900.0,), (1100.0,)), backend="upstream-int8", length=3000, ratio=BY_UPSTREAM)
WHOLE = make_video_row(
    3000, "whole", map=dict.fromkeys(MAP, 0.1), map_alone=ALONE, ratio=ratio(0.05, 0.04, 0.08, "upstream-int8")
)
WINDOWS = make_video_row(
    3000,
    "windows",
    ((200.0,), (250.0,)),
    map=MAP,
    map_alone=ALONE,
    ratio=ratio(0.2, 0.1, 0.4, "upstream-int8"),
    peak_rss_mb=140.0,
    alone_change=MapDifference(points=-20.0, low=-31.5, high=-9.25),
)
ROWS = UPSTREAM, WHOLE, WINDOWS


def results(*rows: Row, evaluated: int | None = 20, **changes: object) -> Results:
    made = make_results(*rows or ROWS)
    more = {
        "baseline": "upstream-int8",
        "evaluated_videos": evaluated,
        "footage": {"3000": [3100, 3003, 897]},
        **changes,
    }
    return replace(made, protocol={**made.protocol, "inputs": "20 feature files, joined in random order", **more})


def drawn(measured: Results, style: str) -> str:
    return draw_report(footage_report(measured), style)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table() -> list[list[str]]:
    lines = drawn(results(), "github").split("\n\n")[0].splitlines()
    return [cells(line) for line in lines if not line.startswith("|-")]


def test_a_row_for_each_way_says_time_memory_map_and_its_change_from_each_video_alone() -> None:
    header, upstream, whole, windows, alone = table()
    assert header == [
        "backend", "mode", "N", "T", "video ms", "ms per 1000 snippets", "faster than upstream-int8", "peak MB",
        "mAP @0.50", "mAP @0.75", "mAP @0.95", "mAP average", "from alone",
    ]  # fmt: skip
    assert upstream[:7] == ["upstream-int8", "whole", "3000", "3000", "1000", "333", "1"]
    assert whole[:5] == ["ort-fp32", "whole", "3000", "100", "55.0"]
    assert windows[:8] == ["ort-fp32", "windows", "3000", "auto", "225", "75.0", "5x [2.5, 10]", "140"]
    assert windows[8:] == ["70.00", "60.00", "30.00", "60.00", "-20.00 [-31.50, -9.25]"]
    assert alone == ["ort-fp32", "each alone", "350", "auto", "", "", "", "", "90.00", "70.00", "50.00", "80.00", ""]


@pytest.mark.parametrize("evaluated", [-1, 2**60])
def test_a_damaged_number_of_videos_does_not_stop_the_report(evaluated: int) -> None:
    assert "| each alone | 1 " in drawn(results(evaluated=evaluated), "github").replace("  ", " ").replace("  ", " ")


def test_time_per_thousand_snippets_counts_those_of_each_launch_s_video() -> None:
    row = make_video_row(100, "windows", ((10.0, 12.0), (30.0, 32.0, 34.0)), per_launch=(100, 200))
    assert row.ms_per_1000_snippets == pytest.approx(150)  # of 100, 120, 150, 160, 170
    assert make_row().ms_per_1000_snippets is None


def test_the_notes_say_what_was_joined_and_what_the_modes_are() -> None:
    text = drawn(results(), "simple")
    assert (
        "N=3000: 2 joined videos of 3003 to 3100 snippets; the 897 that are left make one more, which is not timed."
        in text
    )
    assert "over 20 videos" in text
    assert "windows: the default of stale-run" in text
    assert "the time of upstream-int8 on a whole video at T = N" in text
    assert "Interrupted" in drawn(replace(results(), complete=False), "simple")


def test_without_map_nothing_is_said_of_it() -> None:
    rows = [
        replace(row, map=None, video=row.video and replace(row.video, map_alone=None, alone_change=None))
        for row in ROWS
    ]
    text = drawn(results(*rows, evaluated=None, inputs="random", footage={"3000": [3000]}), "simple")
    for word in ("mAP", "alone", "joined"):
        assert word not in text


def test_what_failed_is_named_by_its_way() -> None:
    dead = make_video_row(3000, "windows", (), error="killed")
    text = drawn(results(ROWS[0], dead, make_video_row(3000, "whole", (), error="gone"), evaluated=None), "simple")
    assert "FAILED: ort-fp32 windows, 3,000 snippets: killed" in text
    assert "FAILED: ort-fp32 T=100, 3,000 snippets: gone" in text


def test_the_form_decides_what_is_rendered() -> None:
    assert render(results(), "table") == drawn(results(), "simple")
    assert render(make_results(make_row()), "table").startswith("backend")
    assert "forward ms" in render(make_results(make_row()), "table")
    _, _, windows = csv.DictReader(io.StringIO(render(results(), "csv")))
    assert (windows["snippets"], windows["mode"], windows["video_median_ms"]) == ("3000", "windows", "225.0")
    assert (windows["map_average"], windows["map_alone_average"]) == ("0.6", "0.8")
    assert render(results(), "json") == results().to_json()
