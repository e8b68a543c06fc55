"""Formats of editors and annotation tools, read back by their own libraries."""

import csv
import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import opentimelineio as otio
import pytest
from pympi.Elan import Eaf

from stale_runtime.detections import Detection
from stale_runtime.formats.audacity_labels import audacity_labels
from stale_runtime.formats.elan_tiers import elan_document
from stale_runtime.formats.frames import frame_span, round_frame_rate
from stale_runtime.formats.label_studio import label_studio_tasks
from stale_runtime.formats.otio_markers import otio_timeline
from stale_runtime.system.text import plain_line
from tests.runtime.formats.results import HOSTILE, hostile_video, result_of, video_of

VIDEO = video_of(("polo", 10, 20.04, 0.5), ("Long jump", 0, 99.99, 0.9), ("polo", 15, 30, 0.4))
NAMES = [plain_line(name) for name in HOSTILE]


def test_audacity_labels_by_value() -> None:
    assert audacity_labels(result_of(VIDEO)) == (
        "0.000000\t99.990000\tLong jump\n10.000000\t20.040000\tpolo\n15.000000\t30.000000\tpolo\n"
    )
    assert audacity_labels(result_of(VIDEO, min_score=0.6)).count("\n") == 1
    assert audacity_labels(result_of(video_of())) == ""


def test_no_name_breaks_audacity_labels() -> None:
    text = audacity_labels(result_of(hostile_video()))
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows == [[f"{n}.000000", f"{n + 1}.000000", name] for n, name in enumerate(NAMES)]
    assert len(text.splitlines()) == len(NAMES)


def read_otio(text: str) -> Any:
    """The clip that OpenTimelineIO reads from a timeline."""
    timeline = otio.adapters.read_from_string(text, "otio_json")
    (track,) = timeline.video_tracks()
    (clip,) = track
    return clip


def test_opentimelineio_reads_the_markers() -> None:
    clip = read_otio(otio_timeline(result_of(VIDEO, frame_rates={"holiday": 50.0})))
    spans = [(m.name, m.marked_range.start_time, m.marked_range.duration) for m in clip.markers]
    assert [(name, start.to_seconds(), length.to_seconds()) for name, start, length in spans] == [
        ("Long jump", 0.0, 100.0),
        ("polo", 10.0, pytest.approx(10.04)),
        ("polo", 15.0, 15.0),
    ]
    assert {time.rate for _, *times in spans for time in times} == {50.0}
    assert [m.metadata["stale-edge"]["score"] for m in clip.markers] == [0.9, 0.5, 0.4]
    assert clip.source_range == clip.available_range()
    assert clip.duration().to_seconds() == 100.0
    assert clip.media_reference.target_url == Path("holiday.mp4").absolute().as_uri()


def test_a_timeline_of_features_has_no_media() -> None:
    clip = read_otio(otio_timeline(result_of(VIDEO, suffix=".npy", min_score=0.6)))
    assert clip.media_reference.is_missing_reference
    assert [marker.name for marker in clip.markers] == ["Long jump"]
    assert clip.markers[0].marked_range.start_time.rate == 25.0


def test_no_name_breaks_a_timeline() -> None:
    clip = read_otio(otio_timeline(result_of(hostile_video())))
    assert [marker.name for marker in clip.markers] == NAMES


def read_elan(text: str, folder: Path) -> dict[str, list[tuple[int, int, str]]]:
    """The annotations that pympi reads, by tier, in order of time."""
    path = folder / "read.eaf"
    path.write_text(text)
    document = Eaf(str(path))
    return {
        tier: sorted((start, end, value) for start, end, value, *_ in document.get_annotation_data_for_tier(tier))
        for tier in document.get_tier_names()
    }


def test_pympi_reads_the_tiers(tmp_path: Path) -> None:
    text = elan_document(result_of(VIDEO, output=tmp_path / "holiday.eaf"))
    assert read_elan(text, tmp_path) == {
        "Long jump": [(0, 99_990, "Long jump")],
        "polo": [(10_000, 20_040, "polo")],
        "polo 2": [(15_000, 30_000, "polo")],
    }
    (media,) = Eaf(str(tmp_path / "read.eaf")).media_descriptors
    assert media["MEDIA_URL"] == Path("holiday.mp4").absolute().as_uri()
    assert (tmp_path / media["RELATIVE_MEDIA_URL"]).resolve() == Path("holiday.mp4").resolve()
    assert media["MIME_TYPE"] == "video/mp4"


def test_a_document_of_nothing_can_be_read(tmp_path: Path) -> None:
    assert read_elan(elan_document(result_of(video_of(), suffix=".npy")), tmp_path) == {}


def test_annotations_of_a_tier_do_not_overlap_and_no_tier_gets_another_ones(tmp_path: Path) -> None:
    rows = [("a", n / 2, n / 2 + 3, 0.5) for n in range(20)]
    tiers = read_elan(elan_document(result_of(video_of(*rows, ("a 2", 0, 50, 0.9), ("a", 7, 7, 0.3)))), tmp_path)
    assert sum(map(len, tiers.values())) == 22
    assert tiers["a 2"] == [(0, 50_000, "a 2")]
    for annotations in tiers.values():
        assert len({value for *_, value in annotations}) == 1
        assert all(before[1] <= after[0] for before, after in pairwise(annotations))


def test_no_name_breaks_a_document(tmp_path: Path) -> None:
    tiers = read_elan(elan_document(result_of(hostile_video())), tmp_path)
    assert [value for rows in tiers.values() for *_, value in rows] == [name or "?" for name in NAMES]
    assert list(tiers) == [name or "?" for name in NAMES]


LABEL_STUDIO_REGION: dict[str, Any] = {
    "id": str,
    "type": str,
    "from_name": str,
    "to_name": str,
    "score": float,
    "value": {"ranges": [{"start": int, "end": int}], "timelinelabels": [str]},
}
"""What Label Studio's SDK 2.1 requires of a region of timeline labels (``TimelineLabelsValue``) and of a prediction."""


def shape(content: Any) -> Any:
    """The same structure with types instead of values."""
    if isinstance(content, dict):
        return {key: shape(value) for key, value in content.items()}
    return [shape(value) for value in content] if isinstance(content, list) else type(content)


def test_label_studio_tasks_by_value() -> None:
    other = video_of(("polo", 0.25, 0.5, 0.1), name="b")
    tasks = json.loads(label_studio_tasks(result_of(VIDEO, other, frame_rates={"holiday": 50.0})))
    assert [task["data"] for task in tasks] == [
        {"video": "/data/local-files/?d=holiday.mp4", "fps": 50.0, "video_id": "holiday"},
        {"video": "/data/local-files/?d=b.mp4", "fps": 25.0, "video_id": "b"},
    ]
    (prediction,) = tasks[0]["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("stale-edge 1.2", 0.9)
    assert [(*region["value"]["ranges"], *region["value"]["timelinelabels"]) for region in prediction["result"]] == [
        ({"start": 1, "end": 5000}, "Long jump"),
        ({"start": 501, "end": 1002}, "polo"),
        ({"start": 751, "end": 1500}, "polo"),
    ]
    assert [shape(region) for region in prediction["result"]] == [LABEL_STUDIO_REGION] * 3
    assert len({region["id"] for region in prediction["result"]}) == 3
    assert tasks[1]["predictions"][0]["result"][0]["value"]["ranges"] == [{"start": 7, "end": 13}]


def test_no_name_breaks_label_studio_tasks() -> None:
    video = hostile_video()
    (task,) = json.loads(label_studio_tasks(result_of(video, suffix=" ?&#.mov")).encode())
    assert [region["value"]["timelinelabels"] for region in task["predictions"][0]["result"]] == [[n] for n in NAMES]
    assert unquote(task["data"]["video"]) == "/data/local-files/?d=holiday ?&#.mov"
    assert "#" not in task["data"]["video"]


@pytest.mark.parametrize(
    ("start", "end", "rate", "expected"),
    [(0, 1, 25, (0, 25)), (0.1, 0.1, 25, (2, 3)), (0.28, 0.56, 25, (7, 14)), (1, 1.0001, 30000 / 1001, (29, 30))],
)
def test_frames_are_those_that_an_action_touches(
    start: float, end: float, rate: float, expected: tuple[int, int]
) -> None:
    assert frame_span(Detection("a", start, end, 0.5), rate) == expected


@pytest.mark.parametrize(("measured", "expected"), [(29.9701, 30000 / 1001), (25.0004, 25.0), (12.34, 12.34), (30, 30)])
def test_measured_frame_rates_become_standard_ones(measured: float, expected: float) -> None:
    assert round_frame_rate(measured) == expected
