"""The index of many videos in a real browser."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.page.index_page import IndexRow, index_page
from stale_runtime.page.video_page import video_page
from tests.page.browser import PHONE, WIDE, Watched, watched_page
from tests.page.samples import HOSTILE, SETTINGS, sample

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def row(video: str, duration_s: float | None, *rows: Detection) -> IndexRow:
    found = VideoDetections(video=video, duration_s=duration_s, detections=rows)
    return IndexRow.of(found, f"./{video}.html", 0.1)


ROWS = (
    row(
        "a",
        60.0,
        Detection("polo", 0.0, 30.0, 0.95),
        Detection("golf", 45.0, 60.0, 0.35),
        Detection("golf", 1, 2, 0.05),
    ),
    row("C", 100.0, Detection("archery", 50.0, 51.0, 0.5)),
    row("b", None),
)


def show(watched: Watched, folder: Path, text: str) -> None:
    (folder / "index.html").write_text(text, "utf-8")
    watched.open(folder / "index.html")


def names(watched: Watched) -> list[str]:
    return watched.page.locator("tbody tr th").all_text_contents()


def test_the_table_is_sorted_by_what_is_clicked(watched: Watched, tmp_path: Path) -> None:
    show(watched, tmp_path, index_page(ROWS, SETTINGS))
    assert names(watched) == ["a", "b", "C"]
    for title, order, direction in [
        ("Video", ["C", "b", "a"], "descending"),
        ("Duration", ["C", "a", "b"], "descending"),
        ("Detections", ["a", "C", "b"], "descending"),
        ("Detections", ["b", "C", "a"], "ascending"),
        ("Best classes", ["a", "C", "b"], "descending"),
    ]:
        header = watched.page.locator("th", has_text=title)
        header.locator("button").click()
        assert (names(watched), header.get_attribute("aria-sort")) == (order, direction)


def test_a_row_says_what_was_found_and_when(watched: Watched, tmp_path: Path) -> None:
    show(watched, tmp_path, index_page(ROWS, SETTINGS))
    assert watched.page.locator("tbody tr").first.inner_text().split("\t")[1:4] == [
        "1:00.0",
        "2",
        "polo 0.95, golf 0.35",
    ]
    first, last = (
        watched.page.locator("tbody tr", has_text="polo").locator("path").evaluate(f"(p) => p.getBBox().{end}")
        for end in ("x", "width")
    )
    assert (first, last) == (0, 60)  # of sixty bins, from the first second to the last
    heights = watched.page.locator("tbody tr", has_text="polo").locator("path").get_attribute("d") or ""
    assert heights.count("v9") == 31
    assert heights.count("v4") == 15
    assert "M31" not in heights


def test_the_search_knows_videos_and_classes(watched: Watched, tmp_path: Path) -> None:
    show(watched, tmp_path, index_page(ROWS, SETTINGS))
    watched.page.fill("#query", "GOLF")
    assert names(watched) == ["a"]
    assert watched.page.inner_text("#count") == "1 of 3 videos."
    watched.page.fill("#query", "b")
    assert names(watched) == ["b"]


def test_links_lead_to_the_pages_and_failures_are_listed(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(video_page(sample(), SETTINGS))
    show(watched, tmp_path, index_page(ROWS, SETTINGS, failed=[("broken.npy", "broken.npy: shape (3, 4)")]))
    assert watched.page.inner_text("#failed-title") == "1 video failed"
    assert "shape (3, 4)" in watched.page.inner_text("#failures")
    watched.page.locator("tbody a").first.click()
    watched.page.wait_for_url("**/a.html")


def test_hostile_names_and_reasons_are_text(watched: Watched, tmp_path: Path) -> None:
    rows = [row(name, 60.0, Detection(name, 0.0, 30.0, 0.9)) for name in HOSTILE]
    show(watched, tmp_path, index_page(rows, SETTINGS, failed=[(name, name) for name in HOSTILE]))
    assert watched.page.locator("img, script[src], iframe, b").count() == 0
    assert HOSTILE[0] in names(watched)
    assert max(map(len, names(watched))) <= 81


def test_the_index_of_a_thousand_videos_is_small_and_complete(watched: Watched, tmp_path: Path) -> None:
    labels = [f"an action with a long name, number {n}" for n in range(200)]
    rows = [
        row(
            f"v_{n:011}",
            60.0 + n,
            *(Detection(labels[(n + i) % 200], i * 1.0, i + 5.0, 0.9 - i / 40) for i in range(30)),
        )
        for n in range(1000)
    ]
    text = index_page(rows, SETTINGS)
    assert len(text.encode()) < 250_000
    show(watched, tmp_path, text)
    assert watched.page.locator("tbody .sparkline").count() == len(names(watched)) == 200
    for _ in range(4):
        watched.page.click("text=Next rows")
    assert names(watched)[-1] == "v_00000000999"
    assert "801 to 1000 of 1,000" in watched.page.inner_text("#table")
    watched.page.fill("#query", "v_00000000999")
    assert names(watched) == ["v_00000000999"]


def test_a_name_of_usual_length_stays_on_one_line_on_a_phone(browser: "Browser", tmp_path: Path) -> None:
    names = ("Playing beach volleyball", "Trimming branches or hedges")
    one = row("-oExUcmbTEE", 60.0, *(Detection(name, 0.0, 30.0, 0.95) for name in names))
    with watched_page(browser, PHONE) as watched:
        show(watched, tmp_path, index_page([one], SETTINGS))
        assert watched.page.evaluate("document.querySelector('tbody th a').getClientRects().length") == 1


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_in_the_index(
    browser: "Browser", tmp_path: Path, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    with watched_page(browser, size, scheme) as watched:
        show(watched, tmp_path, index_page(ROWS, SETTINGS, failed=[("broken.npy", "why")]))
        results = axe.Axe().run(watched.page)
        assert results.violations_count == 0, results.generate_report()
        wider = watched.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider == 0
