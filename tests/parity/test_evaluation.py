"""``stale-eval`` against the original's ActivityNet evaluation."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from stale_runtime.evaluation.ground_truth import read_ground_truth
from stale_runtime.evaluation.mean_average_precision import MeanAveragePrecision, mean_average_precision
from stale_runtime.evaluation.results import read_results

RECORDED = Path(__file__).parent / "recorded" / "evaluation.json.gz"


def evaluate(content: dict[str, Any], folder: Path, **options: Any) -> MeanAveragePrecision:
    for name in ("ground_truth", "detections"):
        (folder / f"{name}.json").write_text(json.dumps(content[name]))
    return mean_average_precision(
        read_results(folder / "detections.json").videos, read_ground_truth(folder / "ground_truth.json"), **options
    )


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return content


def test_map_is_the_recorded_one(recorded: dict[str, Any], tmp_path: Path) -> None:
    result = evaluate(recorded, tmp_path)
    assert list(result.per_tiou.values()) == pytest.approx(recorded["expected"]["per_tiou"], abs=1e-9)
    assert result.average == pytest.approx(recorded["expected"]["average"], abs=1e-9)


def test_ignoring_foreign_labels_is_another_definition(recorded: dict[str, Any], tmp_path: Path) -> None:
    result = evaluate(recorded, tmp_path, foreign_labels="ignored")
    assert result.foreign_label_detections == 57
    assert result.average > recorded["expected"]["average"] + 0.005


def test_one_changed_score_is_noticed(recorded: dict[str, Any], tmp_path: Path) -> None:
    changed = json.loads(json.dumps(recorded))
    best = max(
        (row for rows in changed["detections"]["results"].values() for row in rows), key=lambda row: row["score"]
    )
    best["segment"] = [0.0, 0.001]
    result = evaluate(changed, tmp_path)
    assert abs(result.average - recorded["expected"]["average"]) > 1e-5


@pytest.mark.reference
def test_recording_is_the_one_beside_the_repository(reference: Path, recorded: dict[str, Any]) -> None:
    assert json.loads((reference / "golden" / "evaluation.json").read_text()) == recorded


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "classes"), [("unseen50", "unseen"), ("unseen50_external", "unseen"), ("all200", "all")]
)
def test_recorded_detections_have_the_recorded_map(reference: Path, name: str, classes: str) -> None:
    expected = json.loads((reference / "golden" / "upstream_map.json").read_text())["map"][name]
    truth = read_ground_truth(reference / "ground_truth.json", subset="validation")
    if classes == "unseen":
        truth = truth.of_classes(set((reference / "classes_unseen.txt").read_text().splitlines()))
    found = read_results(reference / "golden" / f"upstream_detections_{name}.json")
    result = mean_average_precision(found.videos, truth)
    assert list(result.per_tiou.values()) == pytest.approx(expected["per_tiou"], abs=1e-9)
