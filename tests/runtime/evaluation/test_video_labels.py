import json
from pathlib import Path
from typing import get_args

import pytest

from stale_runtime.detections import Detection
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.video_labels import ExternalMode, VideoLabel, override_labels, read_video_labels

ROWS = (Detection("polo", 0.0, 1.0, 0.9), Detection("polo", 2.0, 3.0, 0.5), Detection("polo", 4.0, 5.0, 0.1))


def test_reads_labels_by_video(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    path.write_text(json.dumps({"v_a": {"class": "Archery", "score": 0.5, "rank": 1}, "b": {"class": "", "score": 1}}))
    assert read_video_labels(path) == {"a": VideoLabel("Archery", 0.5), "b": VideoLabel("", 1.0)}


def test_a_detection_that_is_not_surer_takes_the_label() -> None:
    changed = override_labels(ROWS, "a", {"a": VideoLabel("archery", 0.5)})
    assert [row.label for row in changed] == ["polo", "archery", "archery"]
    assert [row[1:] for row in changed] == [row[1:] for row in ROWS]
    assert override_labels(ROWS, "a", {"a": VideoLabel("archery", 0.05)}) == ROWS
    assert override_labels((), "a", {"a": VideoLabel("archery", 0.5)}) == ()


def test_always_gives_the_label_to_all_and_changes_nothing_else() -> None:
    changed = override_labels(ROWS, "a", {"a": VideoLabel("archery", 0.05)}, mode="always")
    assert [row.label for row in changed] == ["archery"] * 3
    assert [row[1:] for row in changed] == [row[1:] for row in ROWS]


def test_a_video_without_label_is_named() -> None:
    for mode in get_args(ExternalMode):
        with pytest.raises(DatasetError, match="video b: the external classifier has no label for it"):
            override_labels(ROWS, "b", {"a": VideoLabel("archery", 0.5)}, mode=mode)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"a": null}',
        '{"a": {"class": "x"}}',
        '{"a": {"score": 1}}',
        '{"a": {"class": 3, "score": 1}}',
        '{"a": {"class": "x", "score": "1"}}',
        '{"a": {"class": "x", "score": true}}',
        '{"a": {"class": "x", "score": NaN}}',
        '{"a": {"class": "x", "score": 1e999}}',
        '{"a": {"class": "x", "score": 1' + "0" * 400 + "}}",
        '{"a": {"class": "x", "score": 1}, "v_a": {"class": "y", "score": 1}}',
        '{"a": {"class": "\\u001b[31mred", "score": 1}}',
        '{"a": {"class": "two\\nlines", "score": 1}}',
        '{"a": {"class": "\\ud800", "score": 1}}',
    ],
)
def test_refuses_what_is_not_like_that(tmp_path: Path, content: str) -> None:
    path = tmp_path / "best.json"
    path.write_text(content)
    with pytest.raises(DatasetError) as caught:
        read_video_labels(path)
    assert str(caught.value).startswith(str(path))
