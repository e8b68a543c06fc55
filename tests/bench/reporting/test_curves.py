from dataclasses import replace

import pytest

from stale_bench.reporting import curves
from stale_bench.reporting.curves import Panel, make_panels, sideways
from stale_bench.statistics.map_difference import MapDifference
from tests.bench.helpers import make_results, make_row, make_video_row

WIDE = MapDifference(points=-0.5, low=-2.0, high=1.0)


def panels(*lengths: int, **changes: object) -> dict[str, Panel]:
    rows = [
        make_row(((float(T), 2.0 * T),), length=T, peak_rss_mb=100.0, map={"average": 0.78}, **changes) for T in lengths
    ]
    return {panel.title: panel for panel in make_panels(make_results(*rows))}


def test_a_difference_of_half_a_point_looks_small() -> None:
    rows = [make_row(backend=name, map={"average": average}) for name, average in (("a", 0.780), ("b", 0.785))]
    panel = next(panel for panel in make_panels(make_results(*rows)) if panel.title == "mAP over length")
    heights = [panel.y.position(curve.points[0].y) for curve in panel.curves]
    assert abs(heights[1] - heights[0]) < 0.06


def test_map_has_the_interval_of_its_difference_from_fp32() -> None:
    panel = panels(100, map_change=WIDE)["mAP over length"]
    (point,) = panel.curves[0].points
    assert (point.y, point.low, point.high) == pytest.approx((78.0, 76.5, 79.5))
    assert "95 % interval" in panel.bars
    assert panels(100)["mAP over length"].bars == ""


def test_time_has_the_lowest_and_the_highest_median_of_the_processes() -> None:
    rows = [make_row(((1.0, 3.0, 2.0), (5.0, 7.0)))]
    (point,) = make_panels(make_results(*rows))[0].curves[0].points
    assert (point.y, point.low, point.high) == (3, 2, 6)
    (alone,) = panels(100)["Time over length"].curves[0].points
    assert alone.low is None


def test_a_process_that_took_no_time_has_no_place_on_a_logarithmic_axis() -> None:
    (point,) = make_panels(make_results(make_row(((0.0, 0.0), (5.0, 7.0, 8.0)))))[0].curves[0].points
    assert (point.y, point.low) == (5, None)
    assert make_panels(make_results(make_row(((5e-324,),)))) == ()


def test_intervals_at_one_length_are_side_by_side() -> None:
    rows = [make_row(backend=f"b{n}", map={"average": 0.5}, map_change=WIDE) for n in range(12)]
    over_length, against_time = make_panels(make_results(*rows))[-2:]
    places = [sideways(over_length, curve) for curve in over_length.curves]
    assert places == sorted(set(places))
    assert sum(places) == pytest.approx(0)
    assert max(places) <= 12
    assert {sideways(against_time, curve) for curve in against_time.curves} == {0}


def test_a_whole_video_at_its_own_length_is_a_point_of_both_its_curves() -> None:
    rows = [make_video_row(N, "whole", length=T) for N, T in ((100, 100), (300, 100), (300, 300))]
    names = curves.curve_rows(rows)
    assert names == {"ort-fp32, whole, T=N": [rows[0], rows[2]], "ort-fp32, whole, T=100": [rows[1], rows[0]]}


def test_each_video_alone_is_a_line_in_the_colour_of_its_backend() -> None:
    row = make_video_row(100, "windows", map={"average": 0.6}, map_alone={"average": 0.8})
    panel = make_panels(make_results(replace(row, peak_rss_mb=1.0)))[-1]
    (level,) = panel.levels
    assert (level.name, level.y, level.style) == ("ort-fp32, each video alone", 80, panel.curves[0].style)
    assert panel.y.high >= 80
    assert [entry.name for entry in curves.legend_entries([panel])] == ["ort-fp32, windows", level.name]


def test_nothing_measured_is_no_panel() -> None:
    assert make_panels(make_results(make_row((), error="dead"))) == ()
