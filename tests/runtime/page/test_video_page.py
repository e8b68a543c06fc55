import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, AnnotatedVideo, Annotation
from stale_runtime.page.index_page import IndexRow
from stale_runtime.page.page_folder import relative_url
from stale_runtime.page.video_page import PageSettings, video_page

VIDEO = VideoDetections(
    video="a", duration_s=60.0, detections=(Detection("polo", 0.0, 30.0, 0.95), Detection("golf", 1 / 3, 2 / 3, 0.1))
)
SETTINGS = PageSettings(run="a run", min_score=0.5)
JUDGED = replace(SETTINGS, judged=True)


def content(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(text.split('id="data">')[1].split("</script>")[0])
    return data


def test_a_page_has_all_detections_to_six_digits() -> None:
    data = content(video_page(VIDEO, SETTINGS))
    assert data["labels"] == ["polo", "golf"]
    assert data["detections"] == [[0, 0.0, 30.0, 0.95], [1, 0.333333, 0.666667, 0.1]]
    assert (data["end"], data["in_seconds"], data["min_score"], data["truth"]) == (60.0, True, 0.5, None)


def test_rounding_never_hides_a_detection_at_the_score_that_was_asked_for() -> None:
    score = 0.12345649999
    video = replace(VIDEO, detections=(Detection("polo", 0.0, 1.0, score),))
    data = content(video_page(video, replace(SETTINGS, min_score=score)))
    assert data["detections"][0][3] >= data["min_score"]


def test_annotations_are_shown_except_the_ambiguous() -> None:
    truth = AnnotatedVideo(duration_s=60.0, annotations=(Annotation("run", 1.0, 2.0), Annotation(AMBIGUOUS, 3.0, 4.0)))
    data = content(video_page(VIDEO, JUDGED, annotated=truth))
    assert [data["labels"][label] for label, *_ in data["truth"]] == ["run"]
    assert data["ambiguous"] == [[3.0, 4.0]]


def test_times_late_in_a_long_video_keep_their_milliseconds() -> None:
    video = replace(VIDEO, duration_s=40_000.0, detections=(Detection("polo", 36_000.123, 36_001.456, 0.5),))
    truth = AnnotatedVideo(duration_s=40_000.0, annotations=(Annotation("polo", 36_000.321, 36_001.654),))
    data = content(video_page(video, JUDGED, annotated=truth))
    assert data["detections"][0][1:3] == [36_000.123, 36_001.456]
    assert data["truth"][0][1:] == [36_000.321, 36_001.654]


def test_annotations_become_fractions_where_detections_are() -> None:
    rows = (Annotation("run", 15.0, 30.0),)
    video = replace(VIDEO, duration_s=None, detections=())
    assert content(video_page(video, JUDGED, annotated=AnnotatedVideo(duration_s=60.0, annotations=rows)))["truth"] == [
        [0, 0.25, 0.5]
    ]
    data = content(video_page(video, JUDGED, annotated=AnnotatedVideo(duration_s=None, annotations=rows)))
    assert data["truth"] is None
    assert "Nothing says how long the video is" in data["notes"][0]


def test_damage_is_said_on_one_line() -> None:
    data = content(video_page(replace(VIDEO, damage="3 frames\nare missing"), SETTINGS, notes=["first"]))
    assert data["notes"] == ["first", "The video is damaged: 3 frames are missing"]


def test_a_page_without_curves_is_small() -> None:
    page = video_page(VIDEO, SETTINGS)
    assert "uPlot" not in page.split("<script>", 1)[1]
    assert len(page) < 45_000


def test_the_address_of_a_video_is_relative_and_encoded(tmp_path: Path) -> None:
    page = tmp_path / "pages" / "a.html"
    for name, address in [
        ("a.mp4", "../a.mp4"),
        ("50% #1 ä?.mp4", "../50%25%20%231%20%C3%A4%3F.mp4"),
        ("pages/a:b.mp4", "./a%3Ab.mp4"),
        ("pages/javascript:alert(1).mp4", "./javascript%3Aalert%281%29.mp4"),
    ]:
        assert relative_url(tmp_path / name, page) == address
    name = os.fsdecode(b"\xff.mp4")
    assert unquote_to_bytes(relative_url(tmp_path / name, page)) == b"../\xff.mp4"


def test_the_address_of_a_linked_video_is_that_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.mp4").touch()
    (tmp_path / "here.mp4").symlink_to(tmp_path / "there" / "a.mp4")
    assert relative_url(tmp_path / "here.mp4", tmp_path / "page.html") == "./there/a.mp4"


def test_a_row_of_the_index_by_value() -> None:
    row = IndexRow.of(VIDEO, "./a.html", 0.1)
    assert (row.found, row.classes) == (2, (("polo", 0.95), ("golf", 0.1)))
    assert row.timeline == "9" * 31 + "0" * 29
    assert IndexRow.of(VIDEO, "./a.html", 0.5).found == 1
    late = replace(VIDEO, detections=(Detection("polo", 59.9, 60.0, 0.35), Detection("polo", 58.0, 70.0, 1.7)))
    assert IndexRow.of(late, "", 0.0).timeline == "0" * 58 + "99"
