from pathlib import Path

import pytest

from stale_runtime.errors import DatasetError
from stale_runtime.evaluation import video_info
from stale_runtime.evaluation.video_info import VideoInfo, read_video_info
from tests.runtime.helpers import make_fifo, no_waiting

PUBLISHED = """video,numFrame,seconds,fps,rfps,subset,featureFrame
v_a,418,14.07,30.0,29.7,training,400
v_b,2303,92.18,25.0,24.9,validation,2304
"""
EXPECTED = {"a": VideoInfo(subset="training", duration_s=14.07), "b": VideoInfo(subset="validation", duration_s=92.18)}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "info.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        PUBLISHED,
        PUBLISHED.replace("\n", "\r\n"),
        PUBLISHED.replace("\n", "\r"),
        "\ufeff" + PUBLISHED,
        PUBLISHED + "\n\n",
        PUBLISHED + PUBLISHED.splitlines()[1],
        "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in PUBLISHED.splitlines()),
        "subset, seconds, video\ntraining, 14.07, a\nvalidation, 92.18, v_b\n",
    ],
    ids=["published", "crlf", "cr", "bom", "blank lines", "the same line twice", "quoted", "other order"],
)
def test_reads_subset_and_duration_by_the_names_of_the_columns(tmp_path: Path, text: str) -> None:
    assert read_video_info(write(tmp_path, text)) == EXPECTED
    assert read_video_info(str(tmp_path / "info.csv")) == EXPECTED


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no column video, subset, seconds in the first line"),
        (
            "video,seconds\na,1\n",
            "no column subset in the first line, found 'video', 'seconds'; expected a header such as video,subset",
        ),
        ("v_a,418,14.07,30.0,29.7,training,400\n", "no column video, subset, seconds"),
        ("video,subset,seconds\n", "no videos"),
        ("video,subset,seconds\na,x\n", "line 2: 2 columns, expected 3"),
        ("video,subset,seconds\na,x,1,2\n", "line 2: 4 columns, expected 3"),
        ("video,subset,seconds\na,,1\n", "line 2: video 'a', subset '', expected two names"),
        ("video,subset,seconds\n,x,1\n", "line 2: video ''"),
        ("video,subset,seconds\na,\x1b[31m,1\n", "expected two names"),
        ("video,subset,seconds\na,x,none\n", "line 2: 'none' seconds, expected a positive number"),
        ("video,subset,seconds\na,x,nan\n", "'nan' seconds"),
        ("video,subset,seconds\na,x,0\n", "'0' seconds"),
        ("video,subset,seconds\na,x,1e10\n", "'1e10' seconds, expected a positive number, at most 1e[+]09"),
        ("video,subset,seconds\na,x,1\nv_a,y,1\n", "line 3: video 'v_a' is listed twice, with different values"),
        ("video,subset,seconds\n" + "x" * 200_000 + ",x,1\n", "field larger than field limit"),
        ("video\0", "a binary file"),
    ],
)
def test_refuses_what_is_not_like_that(tmp_path: Path, text: str, match: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DatasetError, match=match) as caught:
        read_video_info(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 400


def test_too_many_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_info, "MOST_VIDEOS", 1)
    with pytest.raises(DatasetError, match="3 lines, expected at most 2"):
        read_video_info(write(tmp_path, PUBLISHED))


def test_does_not_wait_for_a_fifo(tmp_path: Path) -> None:
    with no_waiting(), pytest.raises(DatasetError, match="not a regular file"):
        read_video_info(make_fifo(tmp_path / "info.csv"))


@pytest.mark.reference
def test_reads_the_published_file(activitynet: Path) -> None:
    info = read_video_info(activitynet / "video_info_new.csv")
    assert len(info) == 19_228
    assert info["--0edUL8zmA"] == VideoInfo(subset="training", duration_s=92.18)


@pytest.mark.parametrize("text", ["Video;Split;Duration (s)\na;x;12,5\n", "subset\tfps\tid\tsec\nx\t25\tv_a\t12.5\n"])
def test_columns_are_found_however_they_are_called_and_separated(tmp_path: Path, text: str) -> None:
    path = tmp_path / "info.csv"
    path.write_text(text)
    assert read_video_info(path) == {"a": VideoInfo(subset="x", duration_s=12.5)}
