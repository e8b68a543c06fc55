import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_model.data.splits import Split
from stale_model.training.train_request import TrainRequest
from stale_model.training.training_report import Reporter, name_few
from stale_model.training.video_choice import ChosenVideos, choose_videos, draw_data, read_all_annotations
from stale_runtime.errors import DatasetError, RecipeError
from stale_runtime.inputs.feature_origin import FeatureOrigin, sidecar_path
from stale_runtime.inputs.recipe import FeatureRecipe, clip_recipe

CHANNELS = 4
SPLIT = Split(name="closed", seen=("archery", "polo"), unseen=())
SUBSETS = {"a": "training", "b": "training", "c": "validation", "d": "testing"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Annotations in the original code's format, their ``video_info_new.csv``, and features."""
    (tmp_path / "f").mkdir()
    for video in SUBSETS:
        np.save(tmp_path / "f" / f"v_{video}.npy", np.ones((5, CHANNELS), np.float32))
    write_annotations(tmp_path, {video: [("polo", 0, 3)] for video in SUBSETS})
    write_info(tmp_path, SUBSETS)
    return tmp_path


def write_annotations(folder: Path, videos: dict[str, list[tuple[str, float, float]]], **more: str) -> None:
    rows = {
        video: [{"label": label, "segment": [*times]} for label, *times in found] for video, found in videos.items()
    }
    content = {f"v_{video}": {"duration_second": 9, "annotations": found, **more} for video, found in rows.items()}
    (folder / "a.json").write_text(json.dumps(content))


def write_database(folder: Path, subsets: Mapping[str, str | None]) -> None:
    """Write annotations in ActivityNet's format, with a subset for each video."""
    polo = {"duration": 9, "annotations": [{"label": "polo", "segment": [0, 3]}]}
    database = {video: {**polo, "subset": subset} for video, subset in subsets.items()}
    (folder / "a.json").write_text(json.dumps({"database": database}))


def write_info(folder: Path, subsets: dict[str, str]) -> None:
    rows = [f"v_{video},270,9.0,30.0,30.0,{subset},272" for video, subset in subsets.items()]
    (folder / "info.csv").write_text("\n".join(["video,numFrame,seconds,fps,rfps,subset,featureFrame", *rows]) + "\n")


def request(folder: Path, **changes: Any) -> TrainRequest:
    return TrainRequest(annotations=folder / "a.json", features=folder / "f", split="closed", **changes)


def choose(asked: TrainRequest, split: Split = SPLIT) -> ChosenVideos:
    return choose_videos(asked, split, CHANNELS, Reporter("train", 1, quiet=False))


def train_videos(found: ChosenVideos) -> list[str]:
    return [sample.video for sample in found.training.samples]


def test_annotations_without_subsets_are_refused_with_the_remedy(folder: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"does not say which .*--video-info FILE, .*video_info_new\.csv, or --all-tra"
    ):
        read_all_annotations(request(folder))
    (folder / "a.json").write_text(json.dumps({"database": {"a": {"duration": 9, "annotations": []}}}))
    with pytest.raises(DatasetError, match="does not say which videos are for training"):
        read_all_annotations(request(folder))


def test_annotations_with_subsets_are_not_trained_on_as_a_whole(folder: Path) -> None:
    database = {"database": {"a": {"duration": 9, "annotations": [], "subset": "training"}}}
    (folder / "a.json").write_text(json.dumps(database))
    with pytest.raises(DatasetError, match="has the subset of each video itself; leave out --all-training"):
        read_all_annotations(request(folder, all_training=True))


def test_the_csv_file_must_not_move_videos_from_validation_to_training(folder: Path) -> None:
    write_database(folder, SUBSETS)
    asked = request(folder, video_info=folder / "info.csv")
    assert train_videos(choose(asked)) == ["a", "b"]
    write_info(folder, {**SUBSETS, "b": "testing"})
    assert train_videos(choose(asked)) == ["a"]
    write_info(folder, {**SUBSETS, "c": "training", "d": "training"})
    says = r"info\.csv: 2 videos of subset 'training' that are of 'testing', 'validation' in .*a\.json: c, d; leave"
    with pytest.raises(DatasetError, match=says):
        choose(asked)


@pytest.mark.parametrize("own", ["val", "Validation", "val_1", "TEST", "something"])
def test_a_validation_video_is_known_however_its_subset_is_spelt(folder: Path, own: str) -> None:
    write_database(folder, {**dict.fromkeys(SUBSETS, "Training"), "b": "train", "c": own})
    write_info(folder, {**SUBSETS, "c": "training"})
    with pytest.raises(DatasetError, match=f"1 videos of subset 'training' that are of '{own}' in .*: c; leave out"):
        choose(request(folder, video_info=folder / "info.csv"))


def test_videos_without_a_subset_of_their_own_are_what_the_csv_file_says(folder: Path) -> None:
    write_database(folder, {**SUBSETS, "b": None, "c": ""})
    write_info(folder, {**SUBSETS, "c": "training"})
    assert train_videos(choose(request(folder, video_info=folder / "info.csv"))) == ["a", "b", "c"]


def test_a_validation_subset_that_does_not_exist_is_an_error(folder: Path) -> None:
    write_database(folder, SUBSETS)
    with pytest.raises(DatasetError, match="no video of subset 'valdation', found testing, training, validation; give"):
        choose(request(folder, validation_subset="valdation"))
    with pytest.raises(DatasetError, match="no video of subset 'valdation', found testing, training, validation; give"):
        choose(request(folder, validation_subset="valdation", video_info=folder / "info.csv"))


def test_a_validation_subset_that_nobody_named_may_be_absent_but_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_database(folder, {**SUBSETS, "c": "val_1"})
    assert choose(request(folder)).validation is None
    said = capsys.readouterr().err
    assert (
        "a.json: no video of subset 'validation', found testing, training, val_1; give one of these as --vali" in said
    )
    assert "no validation videos of the seen classes; best.pth is the last epoch" in said


def test_a_validation_subset_without_a_usable_video_is_no_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_database(folder, SUBSETS)
    (folder / "f" / "v_d.npy").unlink()
    assert choose(request(folder, validation_subset="testing")).validation is None
    assert "no validation videos of the seen classes; best.pth is the last epoch" in capsys.readouterr().err


def test_all_videos_of_the_text_form_of_thumos14_need_durations(folder: Path) -> None:
    (folder / "a.json").unlink()
    (folder / "a.json").mkdir()  # the name that ``request`` gives the annotations
    (folder / "a.json" / "polo.txt").write_text("a 1.0 2.5\nb 1.0 2.5\n")
    says = "2 without duration; expected durations; give annotations in JSON that have them, or --video-info FILE"
    with pytest.raises(DatasetError, match=says):
        choose(request(folder, all_training=True))


def test_the_text_form_of_thumos14_gets_its_durations_from_the_csv_file(folder: Path) -> None:
    (folder / "a.json").unlink()
    (folder / "a.json").mkdir()  # the name that ``request`` gives the annotations
    videos = [f"video_{part}_000000{n}" for part in ("validation", "test") for n in (1, 2)]
    for video in videos:
        np.save(folder / "f" / f"{video}.npy", np.ones((5, CHANNELS), np.float32))
    rows = {part: [f"{video} 1.0 2.5" for video in videos if part in video] for part in ("validation", "test")}
    for part, name in (("validation", "val"), ("test", "test")):
        for label in ("polo", "archery", "Ambiguous"):
            (folder / "a.json" / f"{label}_{name}.txt").write_text("\n".join(rows[part]) + "\n")
    write_info(folder, {video: video.split("_")[1] for video in videos})
    subsets = {"train_subset": "validation", "validation_subset": "test"}
    found = choose(request(folder, video_info=folder / "info.csv", **subsets))
    assert train_videos(found) == videos[:2]
    assert [row.label for row in found.training.samples[0].annotations] == ["archery", "polo"]
    assert found.validation is not None
    assert [sample.video for sample in found.validation.samples] == videos[2:]


def test_the_csv_file_keeps_validation_out_of_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = choose(request(folder, video_info=folder / "info.csv"))
    assert train_videos(found) == ["a", "b"]
    assert found.validation is not None
    assert [sample.video for sample in found.validation.samples] == ["c"]
    said = capsys.readouterr().err
    assert "info.csv: subsets of 4 of 4 videos" in said
    assert "without a subset" not in said
    assert "are not in" not in said


def test_videos_of_one_file_only_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_info(folder, {"a": "training", "d": "testing", "x": "training", "y": "validation"})
    assert train_videos(choose(request(folder, video_info=folder / "info.csv"))) == ["a"]
    said = capsys.readouterr().err
    assert "subsets of 2 of 4 videos" in said
    assert "without a subset, so not used: b, c\n" in said
    assert "2 videos of " in said
    assert "no validation videos of the seen classes; best.pth is the last epoch" in said


def test_all_training_takes_every_video_and_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = request(folder, all_training=True)
    split = Split(name="mine", seen=("polo",), unseen=("archery",))
    found = choose(asked, split)
    assert train_videos(found) == ["a", "b", "c", "d"]
    assert (found.validation, found.unseen) == (None, None)
    assert "--all-training: every video of" in capsys.readouterr().err
    assert draw_data(asked, split, found, Reporter("train", 1, quiet=True)).all_training


def test_a_list_restricts_the_training_videos_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "ids.txt").write_text("# mine\nv_b\nc\nzz\n")
    asked = request(folder, video_info=folder / "info.csv", train_ids=folder / "ids.txt")
    found = choose(asked)
    assert train_videos(found) == ["b"]
    assert found.validation is not None
    said = capsys.readouterr().err
    assert "ids.txt: 1 of 3 ids are videos of subset 'training'" in said
    assert "ids.txt: not among them: c, zz\n" in said
    data = draw_data(asked, SPLIT, found, Reporter("train", 1, quiet=True))
    assert data.listed == 1
    ids = data.train_ids
    assert ids is not None
    assert ids.ids == {"b", "c", "zz"}


def test_listed_videos_that_cannot_be_used_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "f" / "v_a.npy").unlink()
    (folder / "ids.txt").write_text("a\nb\n")
    found = choose(request(folder, video_info=folder / "info.csv", train_ids=folder / "ids.txt"))
    assert train_videos(found) == ["b"]
    assert "left out without features: a\n" in capsys.readouterr().err


def test_a_list_without_a_training_video_is_refused(folder: Path) -> None:
    (folder / "ids.txt").write_text("c\nzz\n")
    asked = request(folder, video_info=folder / "info.csv", train_ids=folder / "ids.txt")
    with pytest.raises(DatasetError, match=r"ids\.txt: 2 ids, none of subset 'training', such as c, zz; give .* as a$"):
        choose(asked)


def test_ambiguous_segments_are_skipped_in_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    polo, ambiguous = ("polo", 0, 3), ("Ambiguous", 4, 5)
    write_annotations(folder, {"a": [polo, ambiguous], "b": [ambiguous], "c": [polo, ambiguous], "d": [polo]})
    found = choose(request(folder, video_info=folder / "info.csv"))
    assert [[row.label for row in sample.annotations] for sample in found.training.samples] == [["polo"]]
    assert found.validation is not None
    assert [row.label for row in found.validation.samples[0].annotations] == ["polo", "Ambiguous"]
    said = capsys.readouterr().err
    assert "training: skipped 2 segments labelled Ambiguous" in said
    assert "training: 1 of 2 videos; left out: 1 without annotations" in said
    assert read_all_annotations(request(folder, all_training=True)).labels == ("polo",)


def test_what_lies_outside_its_video_is_skipped_in_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside, before, after = ("polo", 0, 3), ("polo", -3, -1), ("polo", 9, 12)
    write_annotations(folder, {"a": [inside, after], "b": [before, after], "c": [inside, after], "d": [inside]})
    found = choose(request(folder, video_info=folder / "info.csv"))
    assert [[*sample.annotations] for sample in found.training.samples] == [[inside]]
    assert found.validation is not None
    assert [*found.validation.samples[0].annotations] == [inside, after], "evaluated like the published evaluation does"
    said = capsys.readouterr().err
    assert "training: skipped 3 annotations that lie wholly outside their video; are all times" in said
    assert "training: 1 of 2 videos; left out: 1 without annotations" in said


def test_zeros_and_unlikely_times_are_warned_of_before_training(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(folder / "f" / "v_a.npy", np.zeros((8, CHANNELS), np.float32))
    np.save(folder / "f" / "v_d.npy", np.ones((8, CHANNELS), np.float32))
    choose(request(folder, video_info=folder / "info.csv"))
    assert re.search(r"warning: 1 of \d training videos: .*v_a\.npy: all rows are zeros", capsys.readouterr().err)
    info = (folder / "info.csv").read_text().replace(",9.0,", ",9000.0,")
    (folder / "info.csv").write_text(info)
    content = json.loads((folder / "a.json").read_text())
    (folder / "a.json").write_text(json.dumps({v: {**c, "duration_second": 9000} for v, c in content.items()}))
    np.save(folder / "f" / "v_a.npy", np.ones((8, CHANNELS), np.float32))
    choose(request(folder, video_info=folder / "info.csv"))
    assert "v_a.npy: 1,125 s a snippet, which is very long" in capsys.readouterr().err


def test_labels_that_are_the_same_class_are_told_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_annotations(folder, {"a": [("polo", 0, 3), ("polo", 0, 3)], "b": [("Polo ", 0, 3)], "c": [("polo", 0, 3)]})
    found = choose(request(folder, video_info=folder / "info.csv"))
    assert {row.label for sample in found.training.samples for row in sample.annotations} == {"polo"}
    assert "only in capitals, blanks or invisible marks are one class: 'polo' for 'Polo '" in capsys.readouterr().err


def test_names_are_few() -> None:
    assert name_few(["b", "a"]) == "a, b"
    assert name_few("edcba") == "a, b, c and 2 more"


def write_origin(folder: Path, video: str, **changes: Any) -> None:
    origin = FeatureOrigin(
        recipe=replace(clip_recipe("tower", snippet_s=2), **changes), duration_s=9, snippets=5, source_sha256="0" * 64
    )
    sidecar_path(folder / "f" / f"v_{video}.npy").write_bytes(origin.to_bytes())


def test_the_recipe_and_what_the_features_look_like_are_kept_for_the_checkpoint(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "recipe.json").write_text('{"tower": "mine", "frames": 4}')
    write_database(folder, SUBSETS)
    asked = request(folder, recipe=folder / "recipe.json")
    chosen = choose(asked)
    found = draw_data(asked, SPLIT, chosen, Reporter("train", 1, quiet=True)).features
    assert found.recipe == FeatureRecipe(tower="mine", frames=4)
    assert "recipe of the features: tower mine, frames 4 (unknown: image_size, " in capsys.readouterr().err
    assert found.statistics is not None
    assert found.statistics.videos == 2, "those of the training"
    assert found.statistics.direction == pytest.approx(CHANNELS * [0.5])
    assert (found.statistics.norm_low, found.statistics.snippet_s_low) == (2, 9 / 5)


def test_features_of_mixed_recipes_are_refused(folder: Path) -> None:
    write_database(folder, SUBSETS)
    for video in SUBSETS:
        write_origin(folder, video)
    assert choose(request(folder)).recipe == clip_recipe("tower", snippet_s=2)
    write_origin(folder, "c", channel_order="bgr")
    with pytest.raises(RecipeError, match=r"v_c\.recipe\.json: channel_order bgr instead of rgb"):
        choose(request(folder))


def test_features_that_do_not_fit_what_stands_beside_them_are_left_out(folder: Path) -> None:
    write_database(folder, SUBSETS)
    write_origin(folder, "a")
    write_origin(folder, "c")
    np.save(folder / "f" / "v_b.npy", np.ones((6, CHANNELS), np.float32))
    write_origin(folder, "b")
    found = choose(request(folder))
    assert train_videos(found) == ["a"]
    assert "v_b.recipe.json: says 5 rows, v_b.npy has 6" in found.training.problems["b"]
