import json
from pathlib import Path

import pytest

from stale_model.data.train_ids import TrainIds, read_train_ids
from stale_runtime.errors import DatasetError


def read(folder: Path, content: str | bytes) -> TrainIds:
    path = folder / "ids"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_train_ids(path)


@pytest.mark.parametrize(
    "content",
    [
        "a\nv_b\n",
        "# my sample\n\n  v_a  \r\nb\nb\n",
        "\ufeffa\nb",
        json.dumps({"v_a": {"annotations": []}, "v_b": {}}),
        "\n " + json.dumps({"version": "1.3", "database": {"a": {}, "b": {}}}),
        '["a", "v_b"]',
    ],
)
def test_every_form_of_a_list_gives_the_same_ids(tmp_path: Path, content: str) -> None:
    found = read(tmp_path, content)
    assert found.ids == {"a", "b"}
    assert found.digest == TrainIds(path=Path(), ids=frozenset(("b", "a"))).digest
    assert found.digest != read(tmp_path, "a\nc\n").digest


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "no video ids, expected one per line"),
        ("# nothing\n\n", "no video ids"),
        ("{}", "no video ids"),
        ('{"database": {}}', "no video ids"),
        ('{"v_a": ', "not valid JSON"),
        ("[1, 2]", "more than text in it"),
        ('["a", ""]', 'id "", expected one video id per line'),
        ("a\n" + "x" * 201, 'line 2: id "x+", expected one video id per line, of at most 200 characters'),
        ("a\tb\n", 'line 1: id "a\\\\tb"'),
        (b"\xff\xfea\0", "not UTF-8 text"),
    ],
)
def test_what_is_no_list_of_ids_is_refused(tmp_path: Path, content: str | bytes, match: str) -> None:
    with pytest.raises(DatasetError, match=match) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(str(tmp_path / "ids"))
    assert "\n" not in str(caught.value)


def test_more_lines_than_videos_can_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_model.data.train_ids.MOST_VIDEOS", 3)
    with pytest.raises(DatasetError, match="4 lines, expected at most 3"):
        read(tmp_path, "a\nb\nc\nd\n")
    with pytest.raises(DatasetError, match="4 videos, expected at most 3"):
        read(tmp_path, '["a", "b", "c", "d"]')


@pytest.mark.reference
def test_the_samples_of_the_thesis_are_lists(activitynet: Path) -> None:
    assert len(read_train_ids(activitynet / "anet_anno_action_20p1.json").ids) == 11509
