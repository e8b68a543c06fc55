import json
from pathlib import Path

import pytest

from stale_runtime.detections import SECONDS, Detection
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation import ground_truth, results, thumos14
from stale_runtime.evaluation.ground_truth import Annotation, GroundTruth, read_ground_truth
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from stale_runtime.evaluation.results import read_results
from stale_runtime.evaluation.thumos14 import read_class_numbers
from stale_runtime.evaluation.video_info import VideoInfo
from tests.runtime.helpers import make_fifo, no_waiting

FIRST, SECOND, THIRD = "video_test_0000004", "video_test_0000006", "video_validation_0000051"


def write_toolkit(folder: Path) -> Path:
    folder.mkdir()
    (folder / "Diving_test.txt").write_text(f"{FIRST}  10.2 20.3 \n{SECOND} 1.0 2.0\n")
    (folder / "CliffDiving_test.txt").write_bytes(f"{FIRST} 10.2 20.3\r\n\r\n".encode())
    (folder / "CliffDiving_val.txt").write_text(f"{THIRD} 5 6\n")
    (folder / "Ambiguous_test.txt").write_text(f"{SECOND} 30.0 40.0\n")
    (folder / "detclasslist.txt").write_text("22 CliffDiving\n26 Diving\n")
    (folder / ".hidden.txt").write_text("nothing of the kind")
    (folder / "readme.md").write_text("nothing of the kind")
    return folder


@pytest.fixture
def toolkit(tmp_path: Path) -> Path:
    return write_toolkit(tmp_path / "groundtruth")


def rows(truth: GroundTruth) -> dict[str, list[Annotation]]:
    return {name: sorted(video.annotations) for name, video in truth.videos.items()}


EXPECTED = {
    FIRST: [Annotation("CliffDiving", 10.2, 20.3), Annotation("Diving", 10.2, 20.3)],
    SECOND: [Annotation("Ambiguous", 30.0, 40.0), Annotation("Diving", 1.0, 2.0)],
}


def test_a_folder_has_one_file_for_each_class(toolkit: Path) -> None:
    truth = read_ground_truth(toolkit)
    assert rows(truth) == {**EXPECTED, THIRD: [Annotation("CliffDiving", 5.0, 6.0)]}
    assert truth.labels == ("CliffDiving", "Diving")
    assert truth.ambiguous_segments == 1
    assert all(video.duration_s is None for video in truth.videos.values())


def test_the_names_of_the_files_say_the_subset(toolkit: Path) -> None:
    assert rows(read_ground_truth(toolkit, subset="test")) == EXPECTED
    assert list(read_ground_truth(toolkit, subset="val").videos) == [THIRD]
    assert list(read_ground_truth(toolkit, subset="validation").videos) == [THIRD]
    with pytest.raises(DatasetError, match="no video of subset 'train', found test, validation"):
        read_ground_truth(toolkit, subset="train")


def test_video_info_gives_durations(toolkit: Path) -> None:
    info = {FIRST: VideoInfo(subset="mine", duration_s=33.5)}
    truth = read_ground_truth(toolkit, subset="mine", video_info=info)
    assert {name: video.duration_s for name, video in truth.videos.items()} == {FIRST: 33.5}


@pytest.mark.parametrize(
    ("asked", "listed"),
    [("val", "val"), ("val", "validation"), ("validation", "val"), ("train", "training"), ("test", "testing")],
)
def test_short_names_of_subsets_are_those_of_video_info_too(toolkit: Path, asked: str, listed: str) -> None:
    info = {THIRD: VideoInfo(subset=listed, duration_s=9.0), FIRST: VideoInfo(subset="mine", duration_s=9.0)}
    assert list(read_ground_truth(toolkit, subset=asked, video_info=info).videos) == [THIRD]
    with pytest.raises(DatasetError, match="no video of subset 'other', found mine, none"):
        read_ground_truth(toolkit, subset="other", video_info={FIRST: info[FIRST]})


def test_a_single_file_is_of_the_class_in_its_name(toolkit: Path, tmp_path: Path) -> None:
    assert rows(read_ground_truth(toolkit / "CliffDiving_test.txt")) == {FIRST: [Annotation("CliffDiving", 10.2, 20.3)]}
    path = tmp_path / "Long_jump.txt"
    path.write_text(f"{FIRST} 0 1")
    truth = read_ground_truth(path)
    assert truth.labels == ("Long_jump",)
    assert not truth.has_subsets
    with pytest.raises(DatasetError, match=r"of subset 'test'; give --video-info .*, or name the files CLASS_val\.txt"):
        read_ground_truth(path, subset="test")
    path.write_text("det")
    with pytest.raises(DatasetError, match=r"expected VIDEO START END$"):
        read_ground_truth(path)


def test_it_says_the_same_as_activitynet_s_json(toolkit: Path, tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    database = {
        name: {"subset": "test", "annotations": [{"label": row.label, "segment": list(row[1:])} for row in video]}
        for name, video in EXPECTED.items()
    }
    path.write_text(json.dumps({"database": database}))
    assert rows(read_ground_truth(path)) == rows(read_ground_truth(toolkit, subset="test"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"{FIRST} 1", f"line 1: '{FIRST} 1', expected VIDEO START END"),
        (f"\n{FIRST} 1 2 3", "line 2: .* expected VIDEO START END"),
        (f"{FIRST} 1 nan", "line 1: 'nan', expected a number"),
        (f"{FIRST} 1 inf", "'inf', expected a number"),
        (f"{FIRST} 1 1e999", "'1e999', expected a number"),
        (f"{FIRST} 2 1", r"line 1: segment \[2.0, 1.0\] ends before it starts"),
        (f"{FIRST} 1 1e10", "expected times of at most"),
        (f"{THIRD} 1 2", "is of subset 'validation' in another file"),
        ("\xff", "not UTF-8"),
    ],
)
def test_refuses_other_lines(toolkit: Path, text: str, match: str) -> None:
    (toolkit / "Polo_test.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=match) as caught:
        read_ground_truth(toolkit)
    assert str(caught.value).startswith(str(toolkit / "Polo_test.txt"))


def test_a_stray_file_and_a_folder_of_empty_files_are_refused_with_a_remedy(toolkit: Path, tmp_path: Path) -> None:
    (toolkit / "readme.txt").write_text("Annotations of twenty classes.")
    with pytest.raises(
        DatasetError, match=r"readme\.txt, line 1: .*; correct the line, or remove the file if it has no"
    ):
        read_ground_truth(toolkit)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "Diving_val.txt").touch()
    with pytest.raises(DatasetError, match="empty: no video, expected at least one; check that"):
        read_ground_truth(tmp_path / "empty", subset="val")


def test_refuses_links_control_characters_and_pipes(toolkit: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret that no message shows")
    (toolkit / "Polo_test.txt").symlink_to(secret)
    with pytest.raises(DatasetError, match="a link, expected a file; replace it") as caught:
        read_ground_truth(toolkit)
    assert "secret that" not in str(caught.value)
    (toolkit / "Polo_test.txt").unlink()
    (toolkit / "Po\x1blo_test.txt").write_text(f"{FIRST} 1 2")
    with pytest.raises(DatasetError, match="control characters in the file's name"):
        read_ground_truth(toolkit)
    (toolkit / "Po\x1blo_test.txt").unlink()
    make_fifo(toolkit / "Polo_test.txt")
    with no_waiting(), pytest.raises(DatasetError, match="not a regular file"):
        read_ground_truth(toolkit)


def test_a_folder_without_such_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no annotations in this folder, expected files such as BaseballPitch_test"):
        read_ground_truth(tmp_path)


def test_limits(toolkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground_truth, "MOST_ANNOTATIONS", 4)
    with pytest.raises(DatasetError, match="5 annotations or more, expected at most 4"):
        read_ground_truth(toolkit)
    monkeypatch.setattr(thumos14, "MOST_CLASSES", 1)
    with pytest.raises(DatasetError, match="4 files, expected at most 1"):
        read_ground_truth(toolkit)
    with pytest.raises(DatasetError, match="2 classes or more, expected at most 1"):
        read_class_numbers(toolkit / "detclasslist.txt")


def test_detections_in_text_have_the_names_of_their_classes(toolkit: Path, tmp_path: Path) -> None:
    numbers = read_class_numbers(toolkit / "detclasslist.txt")
    assert numbers == {22: "CliffDiving", 26: "Diving"}
    path = tmp_path / "Run-2-det.txt"
    path.write_text(f"{FIRST} 10.2 20.3 26 0.75\n{SECOND}.mp4\t1 2 22 -1e-3\n\n{FIRST}.mpeg 3 4 5 2\n")
    found = read_results(path, class_numbers=numbers)
    assert found.unit == SECONDS
    assert found.videos == {
        FIRST: [Detection("Diving", 10.2, 20.3, 0.75), Detection("class 5", 3.0, 4.0, 2.0)],
        SECOND: [Detection("CliffDiving", 1.0, 2.0, -0.001)],
    }
    result = mean_average_precision(found.videos, read_ground_truth(toolkit, subset="test"), tious=(0.5,))
    assert (result.average, result.classes, result.foreign_label_detections) == (0.25, 2, 1)
    with pytest.raises(DatasetError, match="its classes are numbers; give --class-numbers FILE"):
        read_results(path)


def test_detections_that_end_before_they_start_are_swapped(tmp_path: Path) -> None:
    path = tmp_path / "detections.txt"
    path.write_text(f"{FIRST} 74.1 65.3 26 0.5\n{FIRST} 1 2 26 0.5\n{SECOND} 3 3 26 0.5\n")
    found = read_results(path, class_numbers={26: "Diving"})
    assert [(row.start, row.end) for row in found.videos[FIRST]] == [(65.3, 74.1), (1.0, 2.0)]
    assert found.swapped == 1


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"{FIRST} 1 2 26", "line 1: .*, expected VIDEO START END CLASS_NUMBER CONFIDENCE"),
        (f"{FIRST} 1 2 Diving 0.5", "'Diving', expected the number of a class"),
        (f"{FIRST} 1 2 26.0 0.5", "'26.0', expected the number of a class"),
        (f"{FIRST} 1 2 26 nan", "'nan', expected a number"),
        (f"{FIRST} 1e10 1 26 0.5", "expected times of at most"),
        (f"{FIRST} 1 2 26 0.5\nv_{FIRST} 1 2 26 0.5", "listed twice, with and without v_"),
    ],
)
def test_refuses_other_detections(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "detections.txt"
    path.write_text(text)
    with pytest.raises(DatasetError, match=match) as caught:
        read_results(path, class_numbers={26: "Diving"})
    assert str(caught.value).startswith(str(path))


def test_more_detections_in_text_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "detections.txt"
    path.write_text(f"{FIRST} 1 2 26 0.5\n" * 3)
    monkeypatch.setattr(results, "MOST_DETECTIONS", 2)
    with pytest.raises(DatasetError, match="3 detections or more, expected at most 2"):
        read_results(path, class_numbers={26: "Diving"})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no class, expected lines such as '7 BaseballPitch'"),
        ("BaseballPitch", "line 1: 'BaseballPitch', expected NUMBER CLASS"),
        ("x BaseballPitch", "'x', expected the number of a class"),
        ("7 A\n7 B", "line 2: class 7 has two names, 'A' and 'B'"),
        ("7 \x1bA", "control characters"),
    ],
)
def test_refuses_other_class_numbers(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "detclasslist.txt"
    path.write_text(text)
    with pytest.raises(DatasetError, match=match):
        read_class_numbers(path)
