import warnings
from dataclasses import replace

import pytest

from stale_bench.reporting import plots
from stale_runtime.errors import BenchmarkError
from tests.bench.helpers import make_results, make_row, make_video_row

ROWS = tuple(
    make_row(((float(T),),), backend=backend, length=T, peak_rss_mb=80.0 + T, map={"average": 0.5})
    for backend in ("ort-fp32", "ort-int8")
    for T in (100, 200)
)

MAP = {"average": 0.6}
ALONE = {"average": 0.8}


def drawn(*rows: object, suffix: str = ".svg") -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return plots.plot(make_results(*rows), suffix)  # type: ignore[arg-type]


def test_every_curve_is_drawn_and_labelled() -> None:
    image = drawn(*ROWS).decode()
    assert image.startswith("<?xml")
    for label in ("ort-fp32", "ort-int8", plots.LATENCY, plots.MEMORY, plots.MAP, "T=200"):
        assert f"<!-- {label} -->" in image


def test_without_map_there_are_no_panels_for_it() -> None:
    image = drawn(*(make_row(length=T, peak_rss_mb=9.0) for T in (100, 200))).decode()
    assert f"<!-- {plots.MEMORY} -->" in image
    assert f"<!-- {plots.MAP} -->" not in image


def test_failed_rows_leave_gaps() -> None:
    assert drawn(make_row((), stages={}, error="dead"), suffix=".png").startswith(b"\x89PNG")


def test_a_machine_without_matplotlib_is_told_before_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    plots.check_can_plot()
    monkeypatch.setattr(plots, "find_spec", lambda _name: None)
    with pytest.raises(BenchmarkError, match="needs matplotlib; install it with"):
        plots.check_can_plot()


def test_over_the_length_of_videos_each_way_has_its_curve() -> None:
    rows = [
        replace(make_video_row(N, mode, length=T, map=MAP, map_alone=ALONE), peak_rss_mb=90.0)
        for N in (100, 1000)
        for mode, T in {("whole", 100), ("whole", N), ("windows", 100)}
    ]
    image = drawn(*rows).decode()
    ways = [f"ort-fp32, {way}" for way in ("whole, T=100", "whole, T=N", "windows", "each video alone")]
    for label in (*ways, plots.VIDEO_TIME, plots.MEMORY, plots.MAP, plots.VIDEO_LENGTH):
        assert f"<!-- {label} -->" in image
    without = [replace(row, map=None, video=row.video and replace(row.video, map_alone=None)) for row in rows]
    image = drawn(*without).decode()
    assert f"<!-- {plots.MEMORY} -->" in image
    assert f"<!-- {plots.MAP} -->" not in image
    assert "each video alone" not in image


def test_a_whole_video_at_its_own_length_is_a_point_of_both_its_curves() -> None:
    rows = [make_video_row(N, "whole", length=T) for N, T in ((100, 100), (300, 100), (300, 300))]
    curves = plots._curves(rows)
    assert curves == {"ort-fp32, whole, T=N": [rows[0], rows[2]], "ort-fp32, whole, T=100": [rows[1], rows[0]]}
