import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_runtime.detections import FRACTION, SECONDS, Detection, VideoDetections
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.results import read_results, results_json
from stale_runtime.inputs.videos import video_id
from tests.runtime.helpers import make_fifo, no_waiting

text = st.text(st.characters(codec="utf-8"), max_size=6)
times = st.floats(0, 1e6)
detections = st.builds(
    lambda label, a, b, score: Detection(label, min(a, b), max(a, b), score), text, times, times, st.floats(0, 2)
)


def video(name: str = "a", duration_s: float | None = 10.0, *rows: Detection) -> VideoDetections:
    return VideoDetections(video=name, duration_s=duration_s, detections=rows)


def written(*videos: VideoDetections, external: str | None = None) -> Any:
    return json.loads(results_json(videos, version="1", external=external, run={"decoder": "upstream"}))


@settings(deadline=None)
@given(st.dictionaries(text.filter(lambda name: not name.startswith("v_")), st.lists(detections, max_size=3)))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: dict[str, list[Detection]]) -> None:
    path = tmp_path_factory.getbasetemp() / "results.json"
    videos = [video(name, 10.0, *found) for name, found in rows.items()]
    path.write_text(results_json(videos, version="1", external=None, run={}), encoding="utf-8")
    results = read_results(path)
    assert results.videos == rows
    assert list(results.videos) == list(rows)
    assert results.unit == SECONDS


def test_format_by_value() -> None:
    assert written(video("a", 10.0, Detection("polo", 1.0, 2.5, 0.5)), video("b")) == {
        "version": "1",
        "results": {"a": [{"label": "polo", "score": 0.5, "segment": [1.0, 2.5]}], "b": []},
        "external_data": {"used": False, "details": ""},
        "unit": "seconds",
        "run": {"decoder": "upstream"},
    }
    assert written(external="labels")["external_data"] == {"used": True, "details": "labels"}


def test_the_unit_is_that_of_the_videos() -> None:
    assert written(video())["unit"] == "seconds"
    assert written(video("a", None))["unit"] == "fraction of the video"


def test_not_a_number_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        written(video("a", 10.0, Detection("polo", 0.0, 1.0, float("nan"))))


def test_a_file_name_that_is_not_utf_8_can_be_written() -> None:
    name = video_id(b"caf\xe9".decode("utf-8", "surrogateescape"))  # what Path gives of such a file
    assert list(json.loads(results_json([video(name)], version="1", external=None, run={}).encode())["results"])


@pytest.mark.parametrize("unit", [SECONDS, FRACTION])
def test_reads_what_others_wrote(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "results.json"
    rows = [{"label": "polo", "score": 1, "segment": [0, 2], "extra": None}]
    path.write_text(json.dumps({"results": {"v_a": rows, "b": []}, "unit": unit}), encoding="utf-8-sig")
    results = read_results(path)
    assert results.videos == {"a": [Detection("polo", 0.0, 2.0, 1.0)], "b": []}
    assert results.unit == unit
    path.write_text(json.dumps({"results": {}}))
    assert read_results(path).unit == SECONDS


def row(**changes: object) -> str:
    content = {"label": "polo", "score": 0.5, "segment": [0, 2]} | changes
    return json.dumps({"results": {"a": [content]}})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[]", "no 'results'"),
        ("{}", "no 'results'"),
        ('{"results": []}', "no 'results'"),
        ('{"results": {"a": {}}}', "video 'a', expected a list"),
        ('{"results": {"a": [], "v_a": []}}', "'v_a' is listed twice"),
        ('{"results": {"a": [3]}}', "video 'a': detection 3, expected an object with a 'label' and a 'segment'"),
        (row(label=None), "detection"),
        (row(label=3), "detection with label 3, expected the name of a class, not its number"),
        (row(score="high"), "detection with score 'high', expected a number"),
        (row(score="1e999"), "detection with score '1e999', expected a number"),
        (row(score=True), "detection with score True, expected a number"),
        (row(score=None), "detection"),
        (row(segment=[0]), r"segment \[0\], expected \[start, end\]"),
        (row(segment=None), "segment None"),
        (row(segment=[0, "two"]), "segment"),
        (row(segment=[0, "nan"]), "segment"),
        (row(segment=[0, True]), "segment"),
        (row(segment=[2, 1]), r"segment \[2.0, 1.0\] ends before it starts"),
        (row(score=float("nan")), "NaN is not a finite number"),
        (row(segment=[0, float("inf")]), "Infinity is not a finite number"),
        (row(score=0.5).replace("0.5", "1e999"), "."),
        (row(segment=[0, 2]).replace("2]", "1e999]"), "."),
        (row(score=10**400), "."),
        (row(segment=[0, 10**400]), "."),
    ],
)
def test_refuses_what_is_not_like_that(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=match) as caught:
        read_results(path)
    assert str(caught.value).startswith(str(path))


def test_does_not_wait_for_a_fifo(tmp_path: Path) -> None:
    with no_waiting(), pytest.raises(DatasetError, match="not a regular file"):
        read_results(make_fifo(tmp_path / "results.json"))


def test_a_score_may_be_a_number_in_text(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(row(score="0.5"))
    assert read_results(path).videos["a"][0].score == 0.5
