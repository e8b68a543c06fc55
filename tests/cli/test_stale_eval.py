import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli import command
from tests.cli.same_process import fails, run


def truth(**videos: list[tuple[str, float, float]]) -> dict[str, Any]:
    database = {
        video: {
            "duration": 100,
            "subset": "validation",
            "annotations": [{"label": label, "segment": [start, end]} for label, start, end in rows],
        }
        for video, rows in videos.items()
    }
    return {"database": database}


def found(**videos: list[tuple[str, float, float, float]]) -> dict[str, Any]:
    results = {
        video: [{"label": label, "segment": [start, end], "score": score} for label, start, end, score in rows]
        for video, rows in videos.items()
    }
    return {"version": "test", "results": results, "external_data": {}}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "gt.json").write_text(json.dumps(truth(a=[("Polo", 10, 30), ("Polo", 50, 60)], b=[("Archery", 0, 50)])))
    (tmp_path / "det.json").write_text(
        json.dumps(found(v_a=[("Polo", 10, 30, 0.9), ("Polo", 51, 60, 0.8)], v_b=[("Archery", 60, 90, 0.7)]))
    )
    return tmp_path


def evaluate(work: Path, *arguments: str) -> dict[str, Any]:
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", "--format", "json", *arguments, cwd=work)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_json_has_the_documented_shape(work: Path) -> None:
    content = evaluate(work)
    assert content["videos"] == 2
    assert content["classes"] == 2
    assert list(content["per_tiou"]) == [f"{0.5 + 0.05 * i:.2f}" for i in range(10)]
    assert content["per_tiou"]["0.50"] == pytest.approx(0.5)
    assert content["per_tiou"]["0.90"] == pytest.approx(0.5)
    assert content["per_tiou"]["0.95"] == pytest.approx(0.25)
    assert content["average"] == pytest.approx(sum(content["per_tiou"].values()) / 10)


def test_classes_and_thresholds_can_be_chosen(work: Path) -> None:
    (work / "polo.txt").write_text("Polo\n")
    content = evaluate(work, "--classes", "polo.txt", "--tiou", "0.3:0.1:0.7")
    assert content["per_tiou"] == {"0.30": 1.0, "0.40": 1.0, "0.50": 1.0, "0.60": 1.0, "0.70": 1.0}
    assert content["classes"] == 1
    assert evaluate(work, "--tiou", "0.95")["average"] == pytest.approx(0.25)


def test_a_video_without_detections_counts_and_is_said(work: Path) -> None:
    (work / "det.json").write_text(json.dumps(found(a=[("Polo", 10, 30, 0.9), ("Polo", 50, 60, 0.8)])))
    done = command.run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work)
    assert "1 of 2 annotated videos have no detections" in done.stderr
    assert "average    50.00" in done.stdout


def test_detections_of_other_videos_are_ignored_and_said(work: Path) -> None:
    before = evaluate(work)
    content = json.loads((work / "det.json").read_text())
    content["results"]["stranger"] = [{"label": "Polo", "segment": [0, 1], "score": 9}]
    (work / "det.json").write_text(json.dumps(content))
    assert evaluate(work) == before
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work)
    assert "ignored: 1 videos" in done.stderr


def test_foreign_labels_are_treated_as_published_and_both_results_said(work: Path) -> None:
    content = json.loads((work / "det.json").read_text())
    content["results"]["v_b"] += [{"label": "Beer pong", "segment": [10, 30], "score": 0.99}]  # number 0: Polo here
    (work / "det.json").write_text(json.dumps(content))
    assert evaluate(work)["per_tiou"]["0.50"] == pytest.approx(0.5 * 2 / 3)
    assert evaluate(work, "--foreign-labels", "ignored")["per_tiou"]["0.50"] == pytest.approx(0.5)
    done = run("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work)
    assert "1 detections are of classes without ground truth" in done.stderr


def test_a_subset_is_chosen_and_a_wrong_one_is_named(work: Path) -> None:
    content = json.loads((work / "gt.json").read_text())
    content["database"]["b"]["subset"] = "training"
    (work / "gt.json").write_text(json.dumps(content))
    assert evaluate(work, "--subset", "validation")["videos"] == 1
    arguments = ("det.json", "--ground-truth", "gt.json", "--subset", "test")
    fails("stale-eval", *arguments, cwd=work, code=3, says="training, validation")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("det.json", "{", "not valid JSON"),
        ("det.json", "[]", "no 'results'"),
        ("det.json", '{"results": {"a": [{"label": "x", "score": NaN, "segment": [0, 1]}]}}', "not valid JSON"),
        ("det.json", '{"results": {"a": [{"label": "x", "score": 1, "segment": [5, 1]}]}}', "ends before it starts"),
        ("det.json", '{"results": {"a": [{"label": "x", "segment": [0, 1]}]}}', "expected 'label'"),
        ("det.json", '{"results": {"a": []}, "unit": "fraction of the video"}', "--durations"),
        ("det.json", '{"results": {"z": []}}', "no video in common"),
        ("gt.json", '{"v_a": {"duration": 3, "annotations": []}}', "no 'database'"),
        ("gt.json", '{"database": {"a": {"subset": "x"}}}', "annotations"),
        ("gt.json", '{"database": {"a": {"subset": "x", "annotations": []}}}', "no annotation"),
        ("gt.json", "\xff\xfe", "UTF-8"),
    ],
)
def test_bad_files_end_with_one_line(work: Path, file: str, content: str, says: str) -> None:
    (work / file).write_bytes(content.encode("latin-1"))
    fails("stale-eval", "det.json", "--ground-truth", "gt.json", cwd=work, code=3, says=says)


@pytest.mark.parametrize("tiou", ["0.5:0:0.9", "0.9:0.1:0.5", "0", "1.5", "a,b", "", "0.5:0.05"])
def test_bad_thresholds_are_usage_errors(work: Path, tiou: str) -> None:
    arguments = ("det.json", "--ground-truth", "gt.json", "--tiou", tiou)
    fails("stale-eval", *arguments, cwd=work, code=2, says="expected START:STEP:STOP")


def test_a_missing_file_is_named(work: Path) -> None:
    command.fails(
        "stale-eval", "nowhere.json", "--ground-truth", "gt.json", cwd=work, code=3, says="nowhere.json: No such file"
    )
