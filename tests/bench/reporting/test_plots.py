import itertools
import warnings
from dataclasses import replace

import pytest
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text

from stale_bench.reporting import curves, plots
from stale_bench.reporting.benchmark_results import Row
from stale_bench.statistics.map_difference import MapDifference
from stale_runtime.errors import MissingPackageError
from tests.bench.helpers import make_results, make_row, make_video_row

ROWS = tuple(
    make_row(((float(T),),), backend=backend, length=T, peak_rss_mb=80.0 + T, map={"average": 0.5})
    for backend in ("ort-fp32", "ort-int8")
    for T in (100, 200)
)
MAP = {"average": 0.6}
ALONE = {"average": 0.8}
NOISE = MapDifference(points=-0.5, low=-1.5, high=0.5)


def drawn(*rows: Row, suffix: str = ".svg") -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return plots.plot(make_results(*rows), suffix)


def rows_of(backends: int, lengths: tuple[int, ...], *, ms: float | None = None) -> list[Row]:
    """Rows of backends with long names; all with the same time if it is given."""
    return [
        make_row(
            ((ms or 0.01 * T * (n + 1), ms or 0.012 * T * (n + 1)),),
            backend=f"openvino-int8-dynamic-{n}",
            length=T,
            peak_rss_mb=90.0,
            map={"average": 0.78},
            map_change=NOISE,
        )
        for n in range(backends)
        for T in lengths
    ]


def footage_rows() -> list[Row]:
    return [
        replace(make_video_row(N, mode, length=T, map=MAP, map_alone=ALONE), peak_rss_mb=90.0)
        for N in (100, 1000)
        for mode, T in {("whole", 100), ("whole", N), ("windows", 100)}
    ]


def test_every_curve_is_drawn_and_labelled() -> None:
    image = drawn(*ROWS).decode()
    assert image.startswith("<?xml")
    for label in ("ort-fp32", "ort-int8", f"{curves.LATENCY} (logarithmic)", curves.MEMORY, curves.MAP, "200 snippets"):
        assert f"<!-- {label} -->" in image


def test_without_map_there_are_no_panels_for_it() -> None:
    image = drawn(*(make_row(length=T, peak_rss_mb=9.0) for T in (100, 200))).decode()
    assert f"<!-- {curves.MEMORY} -->" in image
    assert f"<!-- {curves.MAP} -->" not in image


def test_failed_rows_leave_gaps() -> None:
    assert drawn(make_row((), stages={}, error="dead"), suffix=".png").startswith(b"\x89PNG")


def test_a_machine_without_matplotlib_is_told_before_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    plots.check_can_plot()
    monkeypatch.setattr(plots, "find_spec", lambda _name: None)
    with pytest.raises(MissingPackageError, match="needs matplotlib, which is not installed; install it with"):
        plots.check_can_plot()


def test_over_the_length_of_videos_each_way_has_its_curve() -> None:
    rows = footage_rows()
    image = drawn(*rows).decode()
    ways = [f"ort-fp32, {way}" for way in ("whole, T=100", "whole, T=N", "windows", "each video alone")]
    for label in (*ways, f"{curves.VIDEO_TIME} (logarithmic)", curves.MEMORY, curves.MAP):
        assert f"<!-- {label} -->" in image
    without = [replace(row, map=None, video=row.video and replace(row.video, map_alone=None)) for row in rows]
    image = drawn(*without).decode()
    assert f"<!-- {curves.MEMORY} -->" in image
    assert f"<!-- {curves.MAP} -->" not in image
    assert "each video alone" not in image


def _boxes(figure: Figure) -> dict[str, object]:
    """Where each text that is shown, and each frame of curves, is in the image."""
    figure.draw_without_rendering()
    shown: list[Artist] = [
        text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text().strip() and _is_shown(text)
    ]
    frames = [axes.patch for axes in figure.axes if axes.get_visible()]
    return {f"{n} {artist}": artist.get_window_extent() for n, artist in enumerate([*shown, *frames])}


def _is_shown(text: Text) -> bool:
    return text.get_visible() and (text.axes is None or text.axes.get_visible())


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(rows_of(12, (100, 200, 400, 800)), id="twelve backends"),
        pytest.param(rows_of(3, (100, 200), ms=5.0), id="equal values"),
        pytest.param(rows_of(5, (100,)), id="one length"),
        pytest.param(rows_of(1, (100,), ms=0.001), id="one point"),
        pytest.param(rows_of(2, tuple(range(100, 3001, 100))), id="thirty lengths"),
        pytest.param(rows_of(30, (16, 17, 4096)), id="thirty backends"),
        pytest.param(footage_rows(), id="videos of given lengths"),
        pytest.param([make_row(((1e6,),), length=T, peak_rss_mb=1e6) for T in (100, 200)], id="large numbers"),
    ],
)
def test_no_label_lies_on_another_or_on_a_curve_or_outside(rows: list[Row]) -> None:
    figure = plots.make_figure(make_results(*rows))
    boxes = _boxes(figure)
    assert len(boxes) > 10
    for (name, box), (other_name, other) in itertools.combinations(boxes.items(), 2):
        apart = box.padded(-1).overlaps(other.padded(-1))  # type: ignore[attr-defined]
        assert not apart, f"{name} lies on {other_name}"
    for name, box in boxes.items():
        assert figure.bbox.padded(1).contains(box.x0, box.y0), name  # type: ignore[attr-defined]
        assert figure.bbox.padded(1).contains(box.x1, box.y1), name  # type: ignore[attr-defined]


def test_no_panel_is_empty() -> None:
    figure = plots.make_figure(make_results(*footage_rows()))
    assert [bool(axes.lines) for axes in figure.axes if axes.get_visible()] == [True] * 3


def test_axes_of_an_image_are_those_of_the_panels() -> None:
    figure = plots.make_figure(make_results(*rows_of(2, (100, 200))))
    time, memory, over_length, _ = figure.axes
    assert time.get_yscale() == "log"
    assert memory.get_ylim()[0] == 0
    low, high = over_length.get_ylim()
    assert high - low >= curves.LEAST_POINTS
