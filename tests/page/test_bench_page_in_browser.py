"""The page of a benchmark in a real browser."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from stale_bench.reporting.bench_page import bench_page
from stale_bench.reporting.benchmark_results import Results
from stale_bench.reporting.report import make_report
from stale_bench.statistics.map_difference import MapDifference
from tests.bench.helpers import make_results, make_row, ratio
from tests.page.browser import PHONE, WIDE, Watched, watched_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LENGTHS = (100, 200, 400, 800)
HOSTILE = "</script></style></svg><img src=x onerror=alert(1)>\u202e" + 10_000 * "x"


def results(backends: int = 10, name: str = "openvino-int8") -> Results:
    rows = [
        make_row(
            ((0.05 * T * (n + 1), 0.06 * T * (n + 1)), (0.07 * T * (n + 1),)),
            backend="ort-fp32" if n == 0 else f"{name}-{n}",
            length=T,
            ratio=ratio(1.0 / (n + 1), 0.9 / (n + 1), 1.2 / (n + 1)),
            peak_rss_mb=100.0 + T / 10 + n,
            map=dict.fromkeys(("average", "0.50", "0.75", "0.95"), 0.78 - n / 1000),
            map_change=MapDifference(points=-n / 10, low=-n / 10 - 0.35 * (n > 0), high=-n / 10 + 0.35 * (n > 0)),
        )
        for n in range(backends)
        for T in LENGTHS
    ]
    return make_results(*rows)


def show(watched: Watched, folder: Path, measured: Results) -> "Page":
    (folder / "bench.html").write_text(bench_page(measured, make_report(measured)), "utf-8")
    return watched.open(folder / "bench.html")


def boxes(page: "Page", selector: str) -> list[dict[str, float]]:
    """Where elements are on the page, in CSS pixels."""
    return [box for each in page.locator(selector).all() if (box := each.bounding_box()) is not None]  # type: ignore[misc]


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return all(
        one[start] + 1 < other[start] + other[length] and other[start] + 1 < one[start] + one[length]
        for start, length in (("x", "width"), ("y", "height"))
    )


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_no_label_of_a_chart_lies_on_another(browser: "Browser", tmp_path: Path, size: tuple[int, int]) -> None:
    with watched_page(browser, size) as watched:
        page = show(watched, tmp_path, results())
        for n in range(page.locator("svg.chart").count()):
            texts = boxes(page, f":nth-match(svg.chart, {n + 1}) text")
            assert len(texts) > 5
            (chart,) = boxes(page, f":nth-match(svg.chart, {n + 1})")
            assert all(box["x"] >= chart["x"] - 1 for box in texts)
            assert all(box["x"] + box["width"] <= chart["x"] + chart["width"] + 1 for box in texts)
            assert all(box["y"] + box["height"] <= chart["y"] + chart["height"] + 1 for box in texts)
            assert not [(a, b) for i, a in enumerate(texts) for b in texts[:i] if overlap(a, b)]


def test_a_point_is_where_its_value_is(watched: Watched, tmp_path: Path) -> None:
    page = show(watched, tmp_path, results(2))
    chart = page.locator("svg.chart").nth(1)  # memory, from 0
    places = {}
    for value in ("100", "50"):
        tick = chart.locator("text", has_text=re.compile(f"^{value}$")).bounding_box()
        assert tick is not None
        places[float(value)] = tick["y"] + tick["height"] / 2
    point = (
        chart.locator("g.point", has_text=re.compile("^ort-fp32, 400 snippets: 140")).locator(".mark").bounding_box()
    )
    assert point is not None
    a_megabyte = (places[50] - places[100]) / 50
    assert point["y"] + point["height"] / 2 == pytest.approx(places[100] - 40 * a_megabyte, abs=2)


def test_samples_and_conditions_are_behind_folds(watched: Watched, tmp_path: Path) -> None:
    page = show(watched, tmp_path, results(2))
    samples = page.locator(".samples").first
    assert not samples.is_visible()
    fold = page.locator("summary", has_text="ort-fp32 T=100")
    fold.focus()
    page.keyboard.press("Enter")
    assert samples.is_visible()
    assert samples.text_content() == "5 6 | 7"


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_the_page_is_no_wider_than_the_window(browser: "Browser", tmp_path: Path, size: tuple[int, int]) -> None:
    with watched_page(browser, size) as watched:
        page = show(watched, tmp_path, results())
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_text_of_a_results_file_does_nothing(watched: Watched, tmp_path: Path) -> None:
    hostile = replace(results(2, HOSTILE), machine={"cpu": HOSTILE, HOSTILE: HOSTILE}, created=HOSTILE)
    page = show(watched, tmp_path, hostile)
    assert page.locator("img, script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDE[0]
    page.wait_for_load_state("load")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_axe_finds_no_fault_in_a_benchmark(
    browser: "Browser", tmp_path: Path, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    with watched_page(browser, size, scheme) as watched:
        page = show(watched, tmp_path, results(4))
        page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
        found = axe.Axe().run(page)
        assert [violation["id"] for violation in found.response["violations"]] == [], found.generate_report()
        assert watched.messages == []
