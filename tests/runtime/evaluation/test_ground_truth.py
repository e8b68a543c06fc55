import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation, read_ground_truth
from stale_runtime.evaluation.video_info import VideoInfo, read_video_info
from tests.runtime.helpers import make_fifo, no_waiting

DATABASE = {
    "v_a": {
        "subset": "validation",
        "duration": 12.5,
        "annotations": [{"label": "polo", "segment": [0, 2.5]}, {"label": "archery", "segment": [3, 3], "id": 7}],
    },
    "b": {"subset": "training", "annotations": []},
    "c": {"subset": "validation", "duration": 3, "annotations": [{"label": "archery", "segment": [1, 2]}]},
}


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "truth.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_reads_every_video_and_annotation(tmp_path: Path) -> None:
    truth = read_ground_truth(write(tmp_path, {"version": "1.3", "database": DATABASE}))
    assert truth.videos == {
        "a": AnnotatedVideo(
            duration_s=12.5,
            annotations=(Annotation("polo", 0.0, 2.5), Annotation("archery", 3.0, 3.0)),
            subset="validation",
        ),
        "b": AnnotatedVideo(duration_s=None, annotations=(), subset="training"),
        "c": AnnotatedVideo(duration_s=3.0, annotations=(Annotation("archery", 1.0, 2.0),), subset="validation"),
    }
    assert list(truth.videos) == ["a", "b", "c"]


def test_a_subset_has_its_videos_only(tmp_path: Path) -> None:
    path = write(tmp_path, {"database": DATABASE})
    assert list(read_ground_truth(path, subset="validation").videos) == ["a", "c"]
    with pytest.raises(
        DatasetError, match="no video of subset 'testing', found training, validation; give one of these"
    ):
        read_ground_truth(path, subset="testing")


def test_of_classes_keeps_the_videos(tmp_path: Path) -> None:
    truth = read_ground_truth(write(tmp_path, {"database": DATABASE})).of_classes({"polo"})
    assert {name: video.annotations for name, video in truth.videos.items()} == {
        "a": (Annotation("polo", 0.0, 2.5),),
        "b": (),
        "c": (),
    }
    assert truth.videos["a"].duration_s == 12.5


def test_labels_are_those_of_all_annotations(tmp_path: Path) -> None:
    assert read_ground_truth(write(tmp_path, {"database": DATABASE})).labels == ("archery", "polo")


def test_times_may_be_text(tmp_path: Path) -> None:
    rows = [{"label": "polo", "segment": ["18.6", " 2e1 "]}, {"label": "polo", "segment": [".5", 1]}]
    path = write(tmp_path, {"database": {"a": {"duration": "30.25", "annotations": rows}}})
    assert read_ground_truth(path).videos["a"] == AnnotatedVideo(
        duration_s=30.25, annotations=(Annotation("polo", 18.6, 20.0), Annotation("polo", 0.5, 1.0))
    )


def test_ambiguous_is_not_a_class(tmp_path: Path) -> None:
    rows = [{"label": label, "segment": [0, 1]} for label in ("polo", "Ambiguous", "archery")]
    truth = read_ground_truth(write(tmp_path, {"database": {"a": {"annotations": rows}, "b": {"annotations": []}}}))
    assert truth.labels == ("archery", "polo")
    assert truth.ambiguous_segments == 1
    assert [row.label for row in truth.of_classes({"polo"}).videos["a"].annotations] == ["polo", "Ambiguous"]
    without = truth.without_ambiguous()
    assert [row.label for row in without.videos["a"].annotations] == ["polo", "archery"]
    assert (list(without.videos), without.ambiguous_segments) == (["a", "b"], 0)


ORIGINAL = {
    "v_a": {
        "duration_second": 31.5,
        "duration_frame": 946,
        "annotations": [{"segment": [1.5, 30], "label": "polo"}, {"segment": [2, 3], "label": "archery"}],
        "feature_frame": 944,
    },
    "v_b": {"duration_second": 10, "duration_frame": 300, "annotations": [], "feature_frame": 288},
}


def test_reads_the_original_format(tmp_path: Path) -> None:
    truth = read_ground_truth(write(tmp_path, ORIGINAL))
    assert truth.videos == {
        "a": AnnotatedVideo(duration_s=31.5, annotations=(Annotation("polo", 1.5, 30), Annotation("archery", 2, 3))),
        "b": AnnotatedVideo(duration_s=10.0, annotations=()),
    }


def test_a_subset_of_a_file_without_subsets_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, ORIGINAL)
    whole = read_ground_truth(path)
    assert not whole.has_subsets
    assert not whole.of_classes({"polo"}).has_subsets
    with pytest.raises(DatasetError, match=r"does not say which videos are of subset 'validation'; .*--video-info"):
        read_ground_truth(path, subset="validation")
    assert read_ground_truth(write(tmp_path, {"database": DATABASE})).has_subsets


def test_video_info_gives_the_subsets(tmp_path: Path) -> None:
    info = {name: VideoInfo(subset=subset, duration_s=9.0) for name, subset in (("a", "testing"), ("z", "training"))}
    path = write(tmp_path, ORIGINAL)
    truth = read_ground_truth(path, subset="testing", video_info=info)
    assert list(truth.videos) == ["a"]
    assert truth.has_subsets
    with pytest.raises(DatasetError, match="no video of subset 'training'"):
        read_ground_truth(path, subset="training", video_info=info)
    assert list(read_ground_truth(path, video_info=info).videos) == ["a", "b"]
    with pytest.raises(DatasetError, match="no video of subset 'training', found none"):
        read_ground_truth(path, subset="training", video_info={})
    without = {name: {"annotations": rows["annotations"]} for name, rows in ORIGINAL.items()}
    path = write(tmp_path, {"database": without})
    assert [video.duration_s for video in read_ground_truth(path, video_info=info).videos.values()] == [9.0, None]


def test_video_info_is_used_instead_of_the_subsets_in_the_file(tmp_path: Path) -> None:
    info = {"a": VideoInfo(subset="testing", duration_s=9.0), "b": VideoInfo(subset="validation", duration_s=9.0)}
    path = write(tmp_path, {"database": DATABASE})
    assert list(read_ground_truth(path, subset="validation", video_info=info).videos) == ["b"]


@pytest.mark.reference
def test_both_formats_say_the_same_of_activitynet(activitynet: Path) -> None:
    ours = read_ground_truth(activitynet / "activity_net_20p1.json")
    original = read_ground_truth(activitynet / "anet_anno_action_20p1.json")
    assert ours.labels == original.labels
    assert len(ours.labels) == 200
    assert {video: original.videos[video].annotations for video in ours.videos} == {
        video: known.annotations for video, known in ours.videos.items()
    }
    assert all(not known.annotations for video, known in original.videos.items() if video not in ours.videos)


@pytest.mark.reference
def test_the_original_s_files_have_the_subsets_of_activitynet(activitynet: Path) -> None:
    info = read_video_info(activitynet / "video_info_new.csv")
    for subset, count in (("validation", 4728), ("training", 1930)):
        ours = read_ground_truth(activitynet / "activity_net_20p1.json", subset=subset)
        original = read_ground_truth(activitynet / "anet_anno_action_20p1.json", subset=subset, video_info=info)
        assert ours.videos.keys() == original.videos.keys()
        assert len(original.videos) == count


def annotated(row: Any) -> dict[str, Any]:
    return {"database": {"a": {"subset": "validation", "annotations": [row]}}}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "not valid JSON"),
        ([], "no 'database'"),
        ({"database": []}, "no 'database'"),
        ({"database": {}}, "no video, expected at least one; check that these are the annotations"),
        ({"database": {"a": []}}, "video 'a' has no list of 'annotations'"),
        ({"database": {"a": {"annotations": None}}}, "video 'a' has no list of 'annotations'"),
        ({"database": {"a": {"annotations": []}, "v_a": {"annotations": []}}}, "'v_a' is listed twice"),
        (annotated(3), "video 'a': annotation 3, expected an object with a 'label' and a 'segment'"),
        (annotated({"segment": [0, 1]}), "with a 'label'"),
        (annotated({"label": 3, "segment": [0, 1]}), "label 3, expected the name of a class, not its number"),
        (annotated({"label": ["x"], "segment": [0, 1]}), "expected the name of a class"),
        (annotated({"label": " \t", "segment": [0, 1]}), "an empty label, expected the name of a class"),
        ({"database": {" ": {"annotations": []}}}, "video ' ', expected the id of a video"),
        (annotated({"label": "x"}), "video 'a': segment None"),
        (annotated({"label": "x", "segment": [0, 1, 2]}), "segment"),
        (annotated({"label": "x", "segment": {"0": 1}}), "segment"),
        (annotated({"label": "x", "segment": ["zero", 1]}), "segment"),
        (annotated({"label": "x", "segment": ["nan", 1]}), "segment"),
        (annotated({"label": "x", "segment": [0, "inf"]}), "segment"),
        (annotated({"label": "x", "segment": [0, "1_0"]}), "segment"),
        (annotated({"label": "x", "segment": [0, "0x10"]}), "segment"),
        (annotated({"label": "x", "segment": [0, "\u0661"]}), "segment"),
        (annotated({"label": "x", "segment": [0, "1e999"]}), "expected times of at most"),
        (annotated({"label": "x", "segment": ["2", "1"]}), "ends before it starts"),
        (annotated({"label": "x", "segment": [False, 1]}), "segment"),
        (annotated({"label": "x", "segment": [1, 0.5]}), r"segment \[1.0, 0.5\] ends before it starts"),
        (annotated({"label": "x", "segment": [0, float("nan")]}), "NaN is not a finite number"),
        (annotated({"label": "x", "segment": [0, 10**400]}), "."),
        (json.dumps(annotated({"label": "x", "segment": [0, 1.5]})).replace("1.5", "1e999"), "."),
        ({"database": {"a": {"annotations": [], "duration": 10**400}}}, "."),
        ({}, "no 'database' and no 'duration_second'"),
        ({"v_a": {"duration": 3, "annotations": []}}, "no 'database' and no 'duration_second'"),
        ({"v_a": {"duration_second": 3}}, "video 'v_a' has no list of 'annotations'"),
        ({**ORIGINAL, "v_c": 3}, "video 'v_c' has no list of 'annotations'"),
        ({**ORIGINAL, "a": {"annotations": []}}, "'a' is listed twice"),
        ({"v_a": {"duration_second": 10**400, "annotations": []}}, "is not a finite number"),
        ({"v_a": {"duration_second": 3, "annotations": [{"label": "x"}]}}, "video 'v_a': segment None"),
    ],
)
def test_refuses_what_is_not_like_that(tmp_path: Path, content: object, match: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DatasetError, match=match) as caught:
        read_ground_truth(path)
    assert str(caught.value).startswith(str(path))


def test_does_not_wait_for_a_fifo(tmp_path: Path) -> None:
    with no_waiting(), pytest.raises(DatasetError, match="not a regular file"):
        read_ground_truth(make_fifo(tmp_path / "truth.json"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["annotations", "subset", "label", "segment", "duration_second", "a", "v_a"]), inner
        )
    ),
)


@settings(deadline=None, max_examples=200)
@given(json_values)
def test_any_json_raises_nothing_else(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    for whole in ({"database": content}, content):
        path = write(tmp_path_factory.getbasetemp(), whole)
        try:
            truth = read_ground_truth(path)
        except DatasetError:
            continue
        assert all(row.start_s <= row.end_s for video in truth.videos.values() for row in video.annotations)


def spelt(*labels: str, subset: str = "training") -> dict[str, object]:
    return {"subset": subset, "duration": 10, "annotations": [{"label": x, "segment": [0, 1]} for x in labels]}


def test_labels_that_differ_in_capitals_or_blanks_are_one_class_in_every_subset(tmp_path: Path) -> None:
    rare = spelt(" long  jump", "long jump\u00a0", "Polo", subset="validation")
    path = write(tmp_path, {"database": {"a": spelt("Long jump", "Long jump", "long jump", "Polo "), "b": rare}})
    truth = read_ground_truth(path)
    assert truth.labels == ("Polo", "long jump")
    assert read_ground_truth(path, subset="training").labels == ("Polo", "long jump")
    assert read_ground_truth(path, subset="validation").labels == ("Polo", "long jump")
    told = truth.spellings.describe()
    assert told is not None
    assert "one class: 'long jump' for ' long  jump', 'Long jump', 'long jump\\xa0'; 'Polo' for 'Polo '" in told


@pytest.mark.parametrize("mark", ["\u200b", "\ufeff", "\u00ad", "\u202e"])
def test_marks_that_cannot_be_seen_make_no_second_class(tmp_path: Path, mark: str) -> None:
    path = write(tmp_path, {"database": {"a": spelt("Polo", "Polo", f"{mark}Polo")}})
    truth = read_ground_truth(path)
    assert truth.labels == ("Polo",)
    assert f"'Polo' for {f'{mark}Polo'!r}" in str(truth.spellings.describe())


def test_labels_of_one_spelling_are_not_told_of(tmp_path: Path) -> None:
    path = write(tmp_path, {"database": {"a": spelt("Long jump", "Long-jump", "Ambiguous", "ambiguous", "ambiguous")}})
    truth = read_ground_truth(path)
    assert truth.labels == ("Long jump", "Long-jump")
    assert truth.ambiguous_segments == 3
    path = write(tmp_path, {"database": {"a": spelt("Long jump", "Long-jump")}})
    assert read_ground_truth(path).spellings.describe() is None


def test_classes_are_chosen_whatever_their_capitals(tmp_path: Path) -> None:
    path = write(tmp_path, {"database": {"a": spelt("Long jump", "Polo")}})
    assert read_ground_truth(path).of_classes(["long  Jump"]).labels == ("Long jump",)


@pytest.mark.parametrize("subset", ["validation", "Validation", "val"])
def test_videos_of_other_subsets_need_no_annotations(tmp_path: Path, subset: str) -> None:
    test = {"subset": "testing", "duration": 3}
    path = write(tmp_path, {"database": {"a": spelt("Polo", subset="validation"), "t": test}})
    assert list(read_ground_truth(path, subset=subset).videos) == ["a"]
    assert read_ground_truth(path).videos["t"].annotations == ()
    with pytest.raises(DatasetError, match="video 't' has no list of 'annotations'"):
        read_ground_truth(path, subset="test")
    path = write(tmp_path, {"database": {"a": spelt("Polo"), "t": {**test, "subset": "validation"}}})
    with pytest.raises(DatasetError, match="video 't' has no list of 'annotations'"):
        read_ground_truth(path)


def test_what_lies_wholly_outside_its_video_can_be_dropped(tmp_path: Path) -> None:
    segments = [[9, 12], [10, 12], [12, 13], [-2, -1], [-1, 0], [0, 0], [-1, 1], [0, 10], [10, 10]]
    inside = [(9, 12), (0, 0), (-1, 1), (0, 10)]
    rows = [{"label": "polo", "segment": segment} for segment in segments]
    content = {
        "a": {"duration": 10, "annotations": rows},
        "b": {"annotations": rows},
        "c": {"duration": 0, "annotations": rows},
    }
    path = write(tmp_path, {"database": content})
    truth = read_ground_truth(path)
    assert truth.outside_segments == 5
    kept = truth.without_outside()
    assert [(row.start_s, row.end_s) for row in kept.videos["a"].annotations] == inside
    assert [len(kept.videos[name].annotations) for name in "bc"] == [9, 9]
    assert kept.outside_segments == 0


def test_labels_can_be_spelt_like_prompts(tmp_path: Path) -> None:
    truth = read_ground_truth(write(tmp_path, {"database": {"a": spelt("Long jump", "Polo", "Ambiguous")}}))
    assert truth.spelt_like(["long  JUMP", "archery"]).labels == ("Polo", "long  JUMP")
    assert truth.spelt_like([]) == truth
