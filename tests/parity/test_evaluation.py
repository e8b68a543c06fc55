"""``stale-eval`` against ActivityNet's evaluation, the original authors' and OpenTAD's."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from stale_runtime.evaluation.ground_truth import read_ground_truth
from stale_runtime.evaluation.matching import ACTIVITYNET_TIOUS, THUMOS14_TIOUS
from stale_runtime.evaluation.mean_average_precision import MeanAveragePrecision, mean_average_precision
from stale_runtime.evaluation.results import read_results

RECORDED = Path(__file__).parent / "recorded"
TIOUS = {"0.5:0.05:0.95": ACTIVITYNET_TIOUS, "0.3:0.1:0.7": THUMOS14_TIOUS}


def evaluate(
    content: dict[str, Any], folder: Path, *, subset: str | None = None, **options: Any
) -> MeanAveragePrecision:
    for name in ("ground_truth", "detections"):
        (folder / f"{name}.json").write_text(json.dumps(content[name]))
    return mean_average_precision(
        read_results(folder / "detections.json").videos,
        read_ground_truth(folder / "ground_truth.json", subset=subset),
        **options,
    )


def unpack(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress((RECORDED / name).read_bytes()))
    return content


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return unpack("evaluation.json.gz")


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


CASES = unpack("evaluation_cases.json.gz")["cases"]
"""By ActivityNet's evaluation: videos outside the ground truth or the subset, duplicates, missing videos."""
RANDOM_CASES = unpack("evaluation_random.json.gz")["cases"]
"""By three evaluations: also segments without length and labels without ground truth."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_every_case_has_the_average_of_activitynet_s_evaluation(case: dict[str, Any], tmp_path: Path) -> None:
    for name, expected in case["expected"].items():
        result = evaluate(case, tmp_path, subset="validation", tious=TIOUS[name])
        assert result.average == pytest.approx(expected, abs=1e-12), name


def test_ignoring_foreign_videos_is_another_definition(tmp_path: Path) -> None:
    (case,) = (case for case in CASES if case["name"] == "video not in ground truth")
    result = evaluate(case, tmp_path, subset="validation", foreign_videos="ignored")
    assert result.foreign_video_detections > 0
    assert result.average > case["expected"]["0.5:0.05:0.95"] + 0.005


@pytest.mark.parametrize("case", RANDOM_CASES)
def test_random_cases_have_the_map_of_activitynet_and_of_the_authors(case: dict[str, Any], tmp_path: Path) -> None:
    recorded = [case["expected"][name] for name in ("official", "authors") if name in case["expected"]]
    assert len(recorded) == (1 if case["foreign_labels"] else 2)  # ActivityNet's stops at an unknown label
    for expected in recorded:
        for name, values in expected.items():
            result = evaluate(case, tmp_path, subset="validation", tious=TIOUS[name])
            assert list(result.per_tiou.values()) == pytest.approx(values, abs=1e-12), name


@pytest.mark.parametrize("case", [case for case in RANDOM_CASES if not case["zero_length"]])
def test_without_foreign_labels_and_empty_segments_opentad_agrees(case: dict[str, Any], tmp_path: Path) -> None:
    for name, values in case["expected"]["opentad"].items():
        result = evaluate(case, tmp_path, subset="validation", tious=TIOUS[name], foreign_labels="ignored")
        assert list(result.per_tiou.values()) == pytest.approx(values, abs=1e-12), name


@pytest.mark.reference
@pytest.mark.parametrize("name", ["evaluation", "evaluation_cases"])
def test_recording_is_the_one_beside_the_repository(reference: Path, name: str) -> None:
    assert json.loads((reference / "golden" / f"{name}.json").read_text()) == unpack(f"{name}.json.gz")


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
