"""The page of a video in a real browser: what is drawn where, and what clicks and keys do."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, AnnotatedVideo, Annotation, GroundTruth
from stale_runtime.evaluation.matching import match_detections
from stale_runtime.evidence import MOST_FRAMES_SHOWN, Evidence, PosterFrame
from stale_runtime.page.page_folder import relative_url
from stale_runtime.page.video_page import video_page
from tests.page.browser import PHONE, WIDE, Watched, wait_until, watched_page
from tests.page.samples import DURATION_S, HOSTILE, JUDGED, ROWS, SETTINGS, TRUTH, curves, sample, small_picture

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[[str], "Page"]


@pytest.fixture
def show(watched: Watched, tmp_path: Path) -> Open:
    def write_and_open(text: str) -> "Page":
        path = tmp_path / "page.html"
        path.write_text(text, "utf-8")
        return watched.open(path)

    return write_and_open


@pytest.fixture
def with_video(show: Open, tmp_path: Path, webm: Path) -> "Page":
    """The page of a video that lies under an awkward name in a folder below."""
    file = tmp_path / "my #1 vidéo?s" / "50%: a b.webm"
    file.parent.mkdir()
    shutil.copy(webm, file)
    page = show(video_page(sample(poster=True), SETTINGS, media=relative_url(file, tmp_path / "page.html")))
    wait_until(page, "document.getElementById('video').readyState >= 1")
    return page


def bars(page: "Page", style: str = ".bar") -> list[tuple[str, float, float]]:
    """Class, start and end of all bars, as measured on the screen in a minute of video."""
    found = page.evaluate(
        """(style) => [...document.querySelectorAll("#lanes .lane")].flatMap((lane) => {
             const track = lane.querySelector(".track").getBoundingClientRect();
             return [...lane.querySelectorAll(style)].flatMap((path) =>
               path.getAttribute("d").split("z").filter(Boolean).map((d) => {
                 const [left, right] = [/M(-?[0-9.]+)/, /H(-?[0-9.]+)/].map((part) => Number(d.match(part)[1]));
                 return [lane.querySelector(".label").textContent, left / track.width, right / track.width];
               }));
           })""",
        style,
    )
    return sorted((name, round(DURATION_S * left, 1), round(DURATION_S * right, 1)) for name, left, right in found)


def draw(page: "Page") -> None:
    """Wait until what was asked for is on the screen."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def set_slider(page: "Page", slider: str, value: float) -> None:
    page.evaluate(
        """([id, value]) => {
             document.getElementById(id).value = value;
             document.getElementById(id).dispatchEvent(new Event("input"));
           }""",
        [slider, value],
    )
    draw(page)


def video_time(page: "Page") -> float:
    wait_until(page, "!document.getElementById('video').seeking")
    return float(page.evaluate("document.getElementById('video').currentTime"))


def page_time(page: "Page") -> float:
    return float(page.get_attribute("#scrubber", "aria-valuenow") or "nan")


def test_bars_are_where_the_detections_are(show: Open) -> None:
    page = show(video_page(sample(), SETTINGS))
    assert bars(page) == sorted((row.label, row.start, row.end) for row in ROWS if row.score >= 0.1)


def test_the_bars_on_the_screen_are_those_of_the_paths(show: Open) -> None:
    page = show(video_page(sample(ROWS[:1]), SETTINGS))
    axis, bar = page.locator("#axis").bounding_box(), page.locator("#lanes .bar").bounding_box()
    assert axis is not None
    assert bar is not None
    drawn = page.evaluate(
        "([xs, y]) => xs.map((x) => document.elementFromPoint(x, y).tagName)",
        [[axis["x"] + axis["width"] * t / DURATION_S for t in (11.9, 12.1, 17.9, 18.1)], bar["y"] + bar["height"] / 2],
    )
    assert drawn == ["svg", "path", "path", "svg"]


def test_overlapping_bars_are_stacked_the_best_on_top(show: Open) -> None:
    page = show(video_page(sample(), SETTINGS))
    tops = page.evaluate(
        """[...document.querySelectorAll("#lanes .lane:first-child .bar")]
             .map((path) => [path.getAttribute("class"), path.getBBox().y])"""
    )
    assert dict(tops) == {"bar found shade-4": 0, "bar found shade-2": 14}


def test_the_slider_leaves_out_what_scores_less(show: Open) -> None:
    page = show(video_page(sample(), SETTINGS))
    assert page.inner_text("#count") == "4 of 5 detections."
    set_slider(page, "score", 0.5)
    assert [row[0] for row in bars(page)] == ["Archery", "Long jump", "Long jump"]
    assert page.inner_text("#count") == "3 of 5 detections."
    assert page.locator("#table tbody tr").count() == 3
    set_slider(page, "score", 0)
    assert len(bars(page)) == 5


def test_the_slider_starts_at_a_score_that_it_has_no_step_for(show: Open) -> None:
    page = show(video_page(sample(), replace(SETTINGS, min_score=0.9)))
    assert len(bars(page)) == 1
    page.reload()
    page = show(video_page(sample(), replace(SETTINGS, min_score=0.50001)))
    assert len(bars(page)) == 2


def test_the_search_leaves_other_classes_out(show: Open) -> None:
    page = show(video_page(sample(), JUDGED, annotated=TRUTH))
    page.fill("#query", "JUMP")
    draw(page)
    assert {row[0] for row in bars(page)} == {"Long jump"}
    assert (
        page.inner_text("#count")
        == "2 of 5 detections; 1 right and 1 wrong at tIoU 0.50; 1 of 1 annotated action found."
    )


def test_the_tiou_decides_what_is_right(show: Open) -> None:
    page = show(video_page(sample(), JUDGED, annotated=TRUTH))
    assert bars(page, ".truth") == [("Archery", 50.5, 59.0), ("Long jump", 11.0, 19.0)]
    assert bars(page, ".right") == [("Long jump", 12.0, 18.0)]
    assert page.locator("#table tbody tr", has_text="found already").inner_text().startswith("Long jump\t0:11.0")
    set_slider(page, "tiou", 0.8)  # that detection has 0.75, the wider one 0.8
    assert bars(page, ".right") == [("Long jump", 11.0, 21.0)]
    assert "1 right and 3 wrong at tIoU 0.80; 1 of 2 annotated actions found" in page.inner_text("#count")
    set_slider(page, "tiou", 0.85)
    assert bars(page, ".right") == []


@pytest.mark.parametrize("seed", range(6))
def test_the_page_marks_the_same_detections_as_the_evaluation(show: Open, seed: int) -> None:
    """Whole seconds and few scores, so that overlaps and scores are often equal."""
    generator = np.random.default_rng(seed)

    def segment() -> tuple[float, float]:
        start = generator.integers(0, 40)
        return float(start), float(start + generator.integers(1, 20))

    labels = ("Archery", "Long jump")
    found = [Detection(labels[i % 2], *segment(), generator.integers(1, 5) / 5) for i in range(60)]
    rows = tuple(sorted(found, key=lambda row: -row.score))
    known = tuple(Annotation(label, *segment()) for label in (*labels * 6, AMBIGUOUS))
    truth = AnnotatedVideo(duration_s=60.0, annotations=known)
    page = show(video_page(sample(rows), replace(JUDGED, min_score=0.0), annotated=truth))
    for tiou in (0.3, 0.5, 0.75):
        set_slider(page, "tiou", tiou)
        matches = match_detections({"a": rows}, GroundTruth(videos={"a": truth}), tious=(tiou,))
        expected = sorted(
            (label, *segment, score, "right" if hit else "not counted" if excused else "wrong")
            for label, matched in matches.classes.items()
            for segment, score, hit, excused in zip(
                matched.found.segments.tolist(),
                matched.found.scores.tolist(),
                matched.hits[:, 0],
                matched.excused,
                strict=True,
            )
        )
        judged = page.evaluate("() => detections.map((row) => [row.name, row.start, row.end, row.score, verdict(row)])")
        assert sorted((*row, verdict.split(" (")[0]) for *row, verdict in judged) == expected
        counts = Counter(verdict for *_, verdict in expected)
        assert f"{counts['right']} right and {counts['wrong']} wrong" in page.inner_text("#count")


def test_without_ground_truth_nothing_is_judged(show: Open) -> None:
    page = show(video_page(sample(), SETTINGS, annotated=TRUTH))
    assert bars(page, ".right, .wrong, .truth") == []
    assert not page.is_visible("#tiou-control")


def test_a_video_without_annotations_says_so(show: Open) -> None:
    page = show(video_page(sample(), JUDGED))
    assert "ground truth does not have this video" in page.inner_text("#notes")


def test_a_click_on_a_bar_seeks_the_video(with_video: "Page") -> None:
    lane = with_video.locator("#lanes .lane", has_text="Long jump").locator(".track")
    box = lane.bounding_box()
    assert box is not None
    lane.click(position={"x": 15 / DURATION_S * box["width"], "y": 6})
    assert video_time(with_video) == pytest.approx(12.0, abs=0.01)
    assert "Long jump, 0:12.0 to 0:18.0, score 0.9000" in with_video.inner_text("#selected")
    assert with_video.locator(".chosen").count() == 1


def test_a_click_beside_the_bars_goes_to_that_time(with_video: "Page") -> None:
    lane = with_video.locator("#lanes .track").first
    box = lane.bounding_box()
    assert box is not None
    lane.click(position={"x": 0.5 * box["width"], "y": 6})
    assert video_time(with_video) == pytest.approx(30.0, abs=0.1)


def test_a_click_on_axis_curves_or_frames_seeks(with_video: "Page") -> None:
    axis, curves_box = with_video.locator("#axis").bounding_box(), with_video.locator("#curves .u-over").bounding_box()
    assert axis is not None
    assert curves_box is not None
    assert curves_box["x"] == pytest.approx(axis["x"], abs=1)  # one below the other
    with_video.mouse.click(axis["x"] + 0.25 * axis["width"], axis["y"] + 5)
    assert video_time(with_video) == pytest.approx(15.0, abs=0.1)
    with_video.locator("#curves .u-over").click(position={"x": 0.75 * curves_box["width"], "y": 50})
    assert video_time(with_video) == pytest.approx(45.0, abs=0.2)
    with_video.locator("#poster button").nth(2).click()
    assert video_time(with_video) == pytest.approx(20.0, abs=0.01)
    with_video.locator("#table tbody tr", has_text="0:30.0").locator("button").click()
    assert video_time(with_video) == pytest.approx(30.0, abs=0.01)


def test_all_frames_are_seen_without_scrolling(show: Open) -> None:
    frames = tuple(PosterFrame(time_s=float(n), jpeg=small_picture(n)) for n in range(MOST_FRAMES_SHOWN))
    page = show(video_page(replace(sample(), evidence=Evidence(class_scores=curves(), poster=frames)), SETTINGS))
    strip = "document.getElementById('poster')"
    assert page.evaluate(f"{strip}.scrollWidth <= {strip}.clientWidth")
    widths = page.locator("#poster img").evaluate_all("images => images.map(image => image.width / image.height)")
    assert widths == pytest.approx([160 / 90] * MOST_FRAMES_SHOWN, rel=0.1)


def test_the_playhead_moves_with_the_video(with_video: "Page") -> None:
    with_video.evaluate("document.getElementById('video').currentTime = 30")
    wait_until(with_video, "document.getElementById('scrubber').getAttribute('aria-valuenow') === '30.000'")
    axis, now = with_video.locator("#axis").bounding_box(), with_video.locator("#now").bounding_box()
    assert axis is not None
    assert now is not None
    assert now["x"] + 1 == pytest.approx(axis["x"] + axis["width"] / 2, abs=1)


def test_the_keyboard_moves_plays_and_steps(with_video: "Page") -> None:
    press = with_video.keyboard.press
    press("ArrowRight")
    assert video_time(with_video) == pytest.approx(1.0, abs=0.01)
    press("Shift+ArrowRight")
    assert video_time(with_video) == pytest.approx(11.0, abs=0.01)
    press("ArrowLeft")
    assert video_time(with_video) == pytest.approx(10.0, abs=0.01)
    starts = []
    for key in "nnnnnpPPPP":
        press(key)
        starts.append(page_time(with_video))
    assert starts == [11, 12, 30, 30, 30, 12, 11, 2, 2, 2]
    press(" ")
    wait_until(with_video, "!document.getElementById('video').paused")
    press(" ")
    wait_until(with_video, "document.getElementById('video').paused")


def test_keys_in_a_field_belong_to_the_field(show: Open) -> None:
    page = show(video_page(sample(), SETTINGS))
    page.focus("#query")
    page.keyboard.type("n p")
    assert page.input_value("#query") == "n p"
    assert page_time(page) == 0
    page.focus("#score")
    page.keyboard.press("ArrowRight")
    assert page_time(page) == 0
    draw(page)
    assert page.inner_text("#score-value") == "0.11"


def test_zoom_shows_a_part_and_follows_the_playhead(show: Open) -> None:
    page = show(video_page(sample(), SETTINGS))
    page.keyboard.press("n")
    page.keyboard.press("n")
    page.keyboard.press("+")
    page.keyboard.press("+")  # a quarter of the minute, around second 11
    assert (page.text_content("#axis") or "").startswith("0:040:06")
    assert page.locator("#lanes .lane", has_text="Archery").locator(".bar").count() == 1
    page.keyboard.press("n")
    page.keyboard.press("n")  # second 30 is outside
    assert page.is_visible("#now")
    page.keyboard.press("0")
    assert len(bars(page)) == 4


def test_a_slider_and_a_resized_window_in_one_frame_are_both_drawn(show: Open) -> None:
    page = show(video_page(sample(), SETTINGS))
    page.evaluate(
        """() => {
             document.getElementById("curves").style.width = "300px";
             later(renderResized);
             document.getElementById("score").value = 0.8;
             document.getElementById("score").dispatchEvent(new Event("input"));
           }"""
    )
    draw(page)
    assert page.evaluate("document.querySelector('#curves canvas').clientWidth") == 300
    assert (page.text_content("#count") or "").startswith("1 of 5")


def test_a_bar_under_the_pointer_says_what_it_is(show: Open) -> None:
    page = show(video_page(sample(), SETTINGS))
    page.locator("#lanes .track").first.hover(position={"x": 1, "y": 6})
    assert page.locator("#lanes .lane").first.get_attribute("title") == ""
    box = page.locator("#lanes .track").first.bounding_box()
    assert box is not None
    best = ROWS[0]
    page.locator("#lanes .track").first.hover(position={"x": (best.start + 1) / DURATION_S * box["width"], "y": 6})
    title = page.locator("#lanes .lane").first.get_attribute("title") or ""
    assert title.startswith(best.label)
    assert f"score {best.score:.4f}" in title


def test_the_playheads_of_lanes_and_curves_agree_after_a_zoom(show: Open) -> None:
    page = show(video_page(sample(), SETTINGS))
    page.keyboard.press("n")
    page.keyboard.press("n")
    page.keyboard.press("+")  # not yet in the middle of what is shown
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    lanes, curves = page.locator("#now").bounding_box(), page.locator("#curves .now").bounding_box()
    assert lanes is not None
    assert curves is not None
    assert curves["x"] == pytest.approx(lanes["x"], abs=1)


def test_a_video_that_is_not_there_is_said_and_the_rest_works(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(video_page(sample(), SETTINGS, media="./gone%20%23.mp4"))
    page = watched.open(tmp_path / "page.html")
    page.wait_for_selector("#unplayable:not([hidden])")
    assert "it is not at ./gone #.mp4" in page.inner_text("#unplayable")
    assert not page.is_visible("#player")
    page.keyboard.press("n")
    assert page_time(page) == 2
    # The browser itself reports the missing file.
    assert watched.messages == ["Failed to load resource: net::ERR_FILE_NOT_FOUND"]
    watched.messages.clear()


def test_times_are_fractions_where_the_duration_is_unknown(show: Open) -> None:
    rows = (Detection("polo", 0.25, 0.5, 0.9),)
    page = show(video_page(sample(rows, duration_s=None), JUDGED, annotated=TRUTH))
    assert "25.0 %" in page.inner_text("#table")
    assert "50 %" in (page.text_content("#axis") or "")
    assert bars(page, ".found, .right, .wrong") == [("polo", 15.0, 30.0)]
    assert bars(page, ".truth")[0] == ("Archery", 50.5, 59.0)  # in seconds of its own minute


def test_a_video_in_which_nothing_was_found(show: Open) -> None:
    page = show(video_page(replace(sample(()), evidence=None), SETTINGS))
    assert page.inner_text("#count") == "0 of 0 detections."
    assert not page.is_visible("#curves-section")


def test_hostile_names_are_text(show: Open) -> None:
    rows = tuple(Detection(name, n, n + 5.0, 0.9 - n / 100) for n, name in enumerate(HOSTILE))
    for name in HOSTILE:
        video = replace(sample(rows, name=name), damage=name)
        video = replace(video, evidence=replace(video.evidence, class_scores=curves(HOSTILE)))  # type: ignore[type-var]
        settings = replace(JUDGED, run=name)
        page = show(video_page(video, settings, annotated=TRUTH, notes=[name]))
        assert page.locator("img, script[src], iframe, b").count() == 0
        shown = page.locator("#lanes .label bdi").all_text_contents()
        assert shown[0] == HOSTILE[0]
        assert max(map(len, shown)) <= 81
        page.keyboard.press("n")


def test_five_thousand_detections_stay_usable(show: Open) -> None:
    rows = [Detection(f"class {n % 50}", n / 100, n / 100 + n % 7, 1 - n / 5001) for n in range(5000)]
    page = show(video_page(sample(rows), replace(JUDGED, min_score=0.0), annotated=TRUTH))
    assert page.inner_text("#count").startswith("5,000 of 5,000 detections")
    assert page.locator("*").count() < 3000
    assert page.locator("#table tbody tr").count() == 50
    page.click("text=Next rows")
    assert "51 to 100 of 5,000" in page.inner_text("#table")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_complain_about(
    browser: "Browser", tmp_path: Path, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    path = tmp_path / "page.html"
    path.write_text(video_page(sample(poster=True), JUDGED, annotated=TRUTH, notes=["a note"]))
    with watched_page(browser, size, scheme) as watched:
        page = watched.open(path)
        page.keyboard.press("n")
        results = axe.Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider == 0  # nothing sticks out sideways
