import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_runtime.errors import DatasetError
from stale_runtime.inputs import videos
from stale_runtime.inputs.videos import read_durations, video_id
from tests.runtime.helpers import make_fifo, no_waiting


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_id_has_no_prefix() -> None:
    assert video_id("v_abc") == video_id("abc") == "abc"
    assert video_id("v_v_abc") == "v_abc"
    assert video_id("-v_abc") == "-v_abc"


@pytest.mark.parametrize(
    "content",
    [
        {"database": {"v_a": {"duration": 12.5, "annotations": []}, "b": {"duration": 3, "subset": "training"}}},
        {"v_a": {"duration_second": 12.5, "duration_frame": 300}, "v_b": {"duration_second": 3}},
        {"a": {"duration": 12.5}, "b": {"duration": 3}},
    ],
)
def test_reads_json(tmp_path: Path, content: object) -> None:
    path = write(tmp_path / "durations.json", json.dumps(content))
    assert read_durations(path) == {"a": 12.5, "b": 3.0}


@pytest.mark.parametrize(
    "text",
    [
        "a,12.5\nb,3\n",
        "v_a,12.5\r\n\r\nv_b, 3 \r\n",
        "video,seconds\na,12.5\nb,3\n",
        "seconds,frames,video\n12.5,300,a\n3,75,b\n",
        "\ufeffvideo,seconds\na,12.5\nb,3",
        '"a","12.5"\n"b","3"\n',
        "a,12.5\nb,3\nv_a,12.5\n",
    ],
)
def test_reads_csv(tmp_path: Path, text: str) -> None:
    path = tmp_path / "durations.CSV"
    path.write_bytes(text.encode())
    assert read_durations(path) == {"a": 12.5, "b": 3.0}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,12.5\nb\n", "line 2: 1 column, expected two: video,seconds"),
        ("a,12.5\nb,soon\n", "line 2: duration 'soon', expected a positive number of seconds"),
        ("a,0\n", "line 1: duration '0'"),
        ("a,-3\n", "duration '-3'"),
        ("a,nan\n", "duration 'nan'"),
        ("a,inf\n", "duration 'inf'"),
        ("a,1e999\n", "duration '1e999'"),
        ("a,3\nb,4\nv_a,5\n", "line 3: v_a has two durations, 3.0 and 5.0"),
        ("a\0,3\n", "line 1: a binary file"),
        ("a," + "1" * 200_000, "line 1: "),
    ],
)
def test_refuses_csv(tmp_path: Path, text: str, match: str) -> None:
    path = write(tmp_path / "durations.csv", text)
    with pytest.raises(DatasetError, match=match) as caught:
        read_durations(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not valid JSON"),
        ("[1, 2]", "no videos, expected ActivityNet's JSON"),
        ('{"database": [1]}', "no videos"),
        ('{"a": 12.5}', "video 'a' has no 'duration'"),
        ('{"a": {"length": 3}}', "video 'a' has no 'duration'"),
        ('{"a": {"duration": true}}', "video a: duration 'True'"),
        ('{"a": {"duration": null}}', "video a: duration 'None'"),
        ('{"a": {"duration": [3]}}', r"video a: duration '\[3\]'"),
        ('{"a": {"duration": NaN}}', "NaN is not a finite number"),
        ('{"a": {"duration": 1e999}}', "duration|number"),
        ('{"a": {"duration": 1' + "0" * 400 + "}}", "duration|number"),
        ('{"a": {"duration": 3}, "v_a": {"duration": 4}}', "v_a has two durations"),
    ],
)
def test_refuses_json(tmp_path: Path, text: str, match: str) -> None:
    path = write(tmp_path / "durations.json", text)
    with pytest.raises(DatasetError, match=match) as caught:
        read_durations(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", ["durations.csv", "durations.json"])
def test_does_not_wait_for_a_fifo(tmp_path: Path, name: str) -> None:
    with no_waiting(), pytest.raises(DatasetError, match="not a regular file"):
        read_durations(make_fifo(tmp_path / name))


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=80), st.text('{}[]",:anv_0123456789.eE-\n\r', max_size=40).map(str.encode)))
@pytest.mark.parametrize("name", ["arbitrary.csv", "arbitrary.json"])
def test_arbitrary_bytes_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    try:
        durations = read_durations(path)
    except DatasetError:
        return
    assert all(seconds > 0 for seconds in durations.values())


@pytest.mark.parametrize("name", ["d.csv", "d.json"])
def test_no_video_lasts_longer_than_times_can_be_written(tmp_path: Path, name: str) -> None:
    for seconds in (1e9, 1.1e9, 1e306):
        text = f"a,{seconds}\n" if name == "d.csv" else f'{{"database": {{"a": {{"duration": {seconds}}}}}}}'
        path = write(tmp_path / name, text)
        if seconds == 1e9:
            assert read_durations(path) == {"a": 1e9}
        else:
            with pytest.raises(
                DatasetError, match=r"duration '1.*', expected a positive number of seconds, at most 1e"
            ):
                read_durations(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_however_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(videos, "MOST_VIDEOS", 2)
    path = tmp_path / "d.csv"
    path.write_bytes(end.join(["video,seconds", "a,1", "b,2"]).encode())
    assert read_durations(path) == {"a": 1, "b": 2}
    path.write_bytes(end.join(["video,seconds", "a,1", "b,2", "", ""]).encode())
    with pytest.raises(DatasetError, match="expected at most 3"):
        read_durations(path)


@pytest.mark.parametrize(
    "text",
    [
        "a;12,5\nb;3,0\n",
        "a\t12.5\nb\t3\n",
        "a   12.5\nb 3\n",
        'a,"12,5"\nb,3\n',
        "Video,Seconds\na,12.5\nb,3\n",
        "video_id,duration\na,12.5\nb,3\n",
        "Name;Frames;Duration (s)\na;300;12,5\nb;75;3\n",
        "file,duration,seconds\na,00:00:12,12.5\nb,00:00:03,3\n",
        "a,12.5,\nb,3,,\n",
        '{"a": {"duration": 12.5}, "b": {"duration": 3}}',
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "txt", "tsv"])
def test_a_table_is_understood_whatever_separates_and_names_its_columns(tmp_path: Path, text: str, suffix: str) -> None:
    assert read_durations(write(tmp_path / f"d.{suffix}", text)) == {"a": 12.5, "b": 3.0}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("base,1467,48.9\n", "line 1: 3 columns, expected two: video,seconds, or a first line that names the columns"),
        ("a,12,5\nb,3,0\n", "line 1: 3 columns, expected two"),
        ("video,seconds\na,12,5\n", "line 2: 3 columns, expected 2 as in the first line"),
        ("a 12,5\n", "line 1: 'a 12,5' may end in a decimal comma or be of two columns"),
        ("a;1,234\nb;2,500\n", "line 1: duration '1,234', whose comma may separate decimals or thousands"),
        ('a,"1,234.5"\n', "whose comma may separate"),
        (
            "video,frames\na,300\n",
            "no column seconds in the first line, found 'video', 'frames'; expected a header such",
        ),
        ("video,duration_ms\na,12500\n", "no column seconds in the first line, found 'video', 'duration_ms'"),
        ("a,00:01:23\n", "no column video, seconds in the first line"),
        ("a,3\nb,00:01:23\n", "line 2: duration '00:01:23', expected a positive number of seconds"),
        (",3\n", "line 1: a duration of 3, expected the id of its video"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        read_durations(write(tmp_path / "d.txt", text))


def test_commas_of_a_whole_file_decide_what_they_are(tmp_path: Path) -> None:
    assert read_durations(write(tmp_path / "d.csv", "a;1,234\nb;0,5\n")) == {"a": 1.234, "b": 0.5}


def test_the_prefix_alone_is_an_id() -> None:
    assert video_id("v_") == "v_"
