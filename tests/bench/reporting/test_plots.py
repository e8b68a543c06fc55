import warnings

import pytest

from stale_bench.reporting import plots
from stale_runtime.errors import BenchmarkError
from tests.bench.helpers import make_results, make_row

ROWS = tuple(
    make_row(((float(T),),), backend=backend, length=T, peak_rss_mb=80.0 + T, map={"average": 0.5})
    for backend in ("ort-fp32", "ort-int8")
    for T in (100, 200)
)


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
