import re

from stale_runtime.detections import Detection
from stale_runtime.evaluation.average_recall import average_recall
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation, GroundTruth
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from stale_runtime.evaluation.measured import Measured
from stale_runtime.evaluation.mistakes import find_mistakes
from stale_runtime.evaluation.score_threshold import score_curve
from stale_runtime.page.evaluation_page import evaluation_page
from tests.page.html_reader import HtmlReader

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e"


def page_of(
    *, label: str = "jump", video: str = "a", score: float = 0.9, pages: dict[str, str] | None = None, classes: int = 1
) -> str:
    """The page of one video with one action, found as another class, and of other classes that are all found."""
    rows = [Annotation(label, 0, 2), *(Annotation(f"class {i}", 10 + i, 11 + i) for i in range(1, classes))]
    truth = GroundTruth(videos={video: AnnotatedVideo(duration_s=500.0, annotations=tuple(rows))})
    right = [Detection(row.label, row.start_s, row.end_s, score) for row in rows[1:]]
    found = {video: [Detection("run", 0, 2, score), *right]}
    measured = Measured(
        precision=mean_average_precision(found, truth),
        curve=score_curve(found, truth),
        recall=average_recall(found, truth),
        min_score=None,
        foreign_labels="published",
        foreign_videos="published",
    )
    mistakes = find_mistakes(found, truth, min_score=measured.point.score)
    return evaluation_page(measured, mistakes, name="det.json", pages=pages or {})


def test_what_was_found_as_another_class_stands_there() -> None:
    texts = HtmlReader(page_of()).texts
    at = texts.index("Confused classes")
    assert [text for text in texts[at:] if text.strip()][5:8] == ["jump", "run", "1"]


def test_it_says_how_detections_without_ground_truth_count() -> None:
    assert (
        "Detections of other classes (1) count as in the published evaluation, those in other videos (0) count as in"
        in page_of()
    )


def test_a_video_with_a_page_is_a_link_and_any_other_is_not() -> None:
    assert "<a " not in page_of()
    assert '<a href="./a.html">a</a>' in page_of(pages={"a": "./a.html"})


def test_names_are_never_markup_and_the_page_has_no_script() -> None:
    parsed = HtmlReader(page_of(label=HOSTILE, video=HOSTILE))
    assert not {*parsed.tags} & {"script", "img", "iframe", "object", "form"}
    assert HOSTILE in parsed.texts
    assert not [
        name for _, attributes in parsed.elements for name in attributes if name.startswith("on") or name == "style"
    ]


def test_long_names_are_cut() -> None:
    assert len(page_of(label="x" * 10_000)) < len(page_of()) + 2000


def test_the_policy_allows_nothing_but_the_style() -> None:
    policy = next(
        a["content"] for t, a in HtmlReader(page_of()).elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src 'none'" in policy


def test_the_best_score_is_marked_where_its_precision_and_recall_are() -> None:
    page = page_of(classes=4)  # 3 of 4 detections are right, and 3 of 4 annotations found
    circle = re.search(r'<circle cx="(.*?)" cy="(.*?)"', page)
    assert circle is not None
    x, y = map(float, circle.groups())
    assert (x, y) == (60 + 0.75 * 580, 24 + 0.25 * 292)
    assert 'aria-label="Precision over recall. From score 0.9 on, precision is 75.0 % and recall 75.0 %."' in page


def test_two_hundred_classes_are_listed_worst_first() -> None:
    page = page_of(classes=200)
    bars = [float(width) for width in re.findall(r'<rect width="([0-9.]+)" height="12" class="bar">', page)]
    assert len(bars) == 200
    assert bars[0] == 0
    assert bars[1:] == [100.0] * 199
    assert len(page) < 120_000


def test_without_detections_there_is_still_a_page() -> None:
    truth = GroundTruth(videos={"a": AnnotatedVideo(duration_s=5.0, annotations=(Annotation("jump", 0, 2),))})
    measured = Measured(
        precision=mean_average_precision({}, truth),
        curve=score_curve({}, truth),
        recall=average_recall({}, truth),
        min_score=None,
        foreign_labels="published",
        foreign_videos="published",
    )
    page = evaluation_page(measured, find_mistakes({}, truth, min_score=0), name="det.json", pages={})
    assert "There are no detections." in page
