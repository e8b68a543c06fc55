import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stale_model.demo.demo_classes import SPLITS
from stale_model.demo.demo_summary import best_apart, demo_summary, draw_text_timeline, summarise_demo
from stale_runtime.commands.evaluate import stale_eval
from stale_runtime.detections import Detection
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.ground_truth import read_ground_truth

TRUTH: dict[str, list[tuple[str, float, float]]] = {
    "validation_0000": [("Washing a car", 5, 20)],
    "validation_0001": [("Washing a bicycle", 10, 30)],
    "validation_0002": [("Painting a car", 0, 30), ("Washing a dog", 30, 40)],
    "validation_0003": [("Painting a dog", 20, 40)],
}
"""Videos of 40 s."""


def write_folder(folder: Path, found: dict[str, list[tuple[str, float, float, float]]]) -> Path:
    def rows(segments: list[Any]) -> list[dict[str, Any]]:
        keys = ("label", "score") if len(segments and segments[0]) == 4 else ("label",)
        return [{"segment": [row[1], row[2]], **dict(zip(keys, (row[0], row[-1]), strict=False))} for row in segments]

    database = {
        name: {"subset": "validation", "duration": 40.0, "annotations": rows(segments)}
        for name, segments in TRUTH.items()
    }
    (folder / "annotations.json").write_text(json.dumps({"version": "demo", "database": database}))
    (folder / "detections.json").write_text(json.dumps({"results": {name: rows(kept) for name, kept in found.items()}}))
    (folder / "splits").mkdir()
    for split, names in SPLITS.items():
        (folder / "splits" / f"{split}.txt").write_text("\n".join(names))
    return folder


def perfect() -> dict[str, list[tuple[str, float, float, float]]]:
    return {name: [(*segment, 0.9) for segment in segments] for name, segments in TRUTH.items()}


def test_what_is_all_right_is_said_to_be(tmp_path: Path) -> None:
    text = summarise_demo(write_folder(tmp_path, perfect()))
    assert "  15 seen classes     right class in 2 of 2 videos, mAP 100.0 %\n" in text
    assert "  5 unseen classes    right class in 2 of 2 videos, mAP 100.0 %\n" in text
    assert "not show how good STALE is on real videos" in text


def test_wrong_classes_and_places_are_counted_as_stale_eval_does(tmp_path: Path) -> None:
    found = perfect()
    found["validation_0001"] = [("Washing a car", 10, 30, 0.9), ("Washing a bicycle", 10, 30, 0.8)]
    found["validation_0003"] = [("Painting a dog", 20, 27, 0.9)]
    folder = write_folder(tmp_path, found)
    text = summarise_demo(folder)
    assert "right class in 1 of 2 videos, mAP 50.0 %" in text, "one is of another class first, one is too short"
    for split in ("seen", "unseen"):
        arguments = [folder / "detections.json", "--ground-truth", folder / "annotations.json"]
        arguments += ["--subset", "validation", "--classes", folder / "splits" / f"{split}.txt", "--format", "json"]
        result = CliRunner().invoke(stale_eval, list(map(str, arguments)), standalone_mode=False)
        assert f"mAP {100 * json.loads(result.stdout)['average']:.1f} %" in text


def test_a_second_action_of_the_video_is_right_too_and_a_video_without_detections_is_wrong(tmp_path: Path) -> None:
    found = perfect()
    found["validation_0002"] = [("Washing a dog", 30, 40, 0.9)]
    found["validation_0000"] = []
    assert "15 seen classes     right class in 1 of 2 videos" in summarise_demo(write_folder(tmp_path, found))


def test_timelines_are_of_the_first_videos_of_unseen_classes(tmp_path: Path) -> None:
    text = summarise_demo(write_folder(tmp_path, perfect()))
    assert [line for line in text.splitlines() if line.startswith("validation_")] == [
        "validation_0001, 40 s",
        "validation_0003, 40 s",
    ]


def test_a_timeline_shows_the_truth_over_what_was_found(tmp_path: Path) -> None:
    truth = read_ground_truth(write_folder(tmp_path, perfect()) / "annotations.json")
    found = [Detection("Washing a bicycle", 12, 28, 0.81), Detection("Painting a dog", 0, 4, 0.5)]
    assert draw_text_timeline("validation_0001", found, truth).splitlines() == [
        "validation_0001, 40 s",
        "  truth |" + 15 * " " + 30 * "=" + 15 * " " + "| Washing a bicycle",
        "  found |" + 6 * "#" + 54 * " " + "| Painting a dog 0.50",
        "  found |" + 18 * " " + 24 * "#" + 18 * " " + "| Washing a bicycle 0.81",
    ]


def test_only_the_best_of_overlapping_and_only_good_detections_are_drawn() -> None:
    best, second = Detection("a", 0, 10, 0.8), Detection("b", 10, 20, 0.41)
    others = [Detection("b", 5, 15, 0.7), Detection("a", 30, 40, 0.39)]
    assert best_apart([others[0], second, best, others[1]]) == [best, second]
    assert best_apart([]) == []


def test_the_command_prints_the_summary_and_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, perfect())
    result = CliRunner().invoke(demo_summary, [str(folder)], standalone_mode=False)
    assert result.output == summarise_demo(folder) + "\n"
    result = CliRunner().invoke(demo_summary, [str(folder), "--page", "/some/index.html"], standalone_mode=False)
    assert result.output.endswith("what was found in them: /some/index.html\n")
    (folder / "detections.json").unlink()
    with pytest.raises(DatasetError, match=r"detections\.json: No such file"):
        summarise_demo(folder)
