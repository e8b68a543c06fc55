"""The same detections have one mAP, whichever command computes it: stale-eval, the export, the training, the bench."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stale_export.validation_gate import MapGate, read_validation
from stale_model import read_original_checkpoint
from stale_model.checkpoints.own_checkpoint import StaleWithText
from stale_model.data.dataset import select_videos
from stale_model.training.training_loop import tokenize
from stale_model.training.validation import validate
from stale_runtime import Localizer
from stale_runtime.evaluation.activitynet import CLASSES
from stale_runtime.evaluation.ground_truth import read_ground_truth
from stale_runtime.evaluation.results import read_results
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from tests import tiny
from tests.cli import command, same_process
from tests.export.int8 import draw_videos, write_videos

FOREIGN, FIRST, SECOND = CLASSES[0], CLASSES[50], CLASSES[100]
"""The first class has no annotations. The published evaluation counts its detections for the first class that has."""
NAMES = (FOREIGN, FIRST, SECOND)


@pytest.fixture(scope="module")
def work(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle, features, classes, annotations in an order that is not alphabetical, and what stale-run finds."""
    work = tmp_path_factory.mktemp("work")
    shutil.copytree(bundle, work / "stale_bundle")
    long = draw_videos(6)
    write_videos(work / "feats", long)
    for video, snippets in {"video4": 9, "video5": 12}.items():  # fewer snippets than T, and another type
        np.save(work / "feats" / f"v_{video}.npy", long[video][:snippets].astype(np.float16))
    (work / "classes.txt").write_text("\n".join(NAMES))
    ids = [f"video{n}" for n in (3, 0, 5, 1, 4, 2)]
    durations = {"database": {video: {"duration": 60.0, "annotations": []} for video in ids}}
    (work / "durations.json").write_text(json.dumps(durations))
    detect(work, "ort-fp32")
    found = read_results(work / "ort-fp32.json").videos
    database = {}
    for video in ids:
        known = {"video3": (FIRST,), "video0": (SECOND,)}.get(video, (FIRST, SECOND))
        rows = [row for row in found[video] if row.label in known][:4]
        annotations = [{"label": row.label, "segment": [row.start, row.end]} for row in rows]
        database[video] = {"duration": 60.0, "subset": "validation", "annotations": annotations}
    (work / "gt.json").write_text(json.dumps({"database": database}))
    alphabetical = {"database": dict(sorted(database.items()))}
    (work / "alphabetical.json").write_text(json.dumps(alphabetical))
    return work


def detect(work: Path, backend: str) -> None:
    """Write what stale-run finds."""
    done = same_process.run(
        "stale-run", "feats", "--prompts", "classes.txt", "--durations", "durations.json", "--backend", backend,
        "--length", str(tiny.LENGTH), "--format", "json", "-o", f"{backend}.json", cwd=work,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def evaluate(work: Path, *arguments: str, detections: str = "ort-fp32.json", ground_truth: str = "gt.json") -> float:
    """What stale-eval prints."""
    done = same_process.run(
        "stale-eval", detections, "--ground-truth", ground_truth, "--format", "json", *arguments, cwd=work
    )
    assert done.returncode == 0, done.stderr
    average = json.loads(done.stdout)["average"]
    assert isinstance(average, float)
    return average


@pytest.fixture(scope="module")
def expected(work: Path) -> float:
    """What stale-eval prints by default, which neither the other rule nor another order of the videos gives."""
    default = evaluate(work)
    others = evaluate(work, "--foreign-labels", "ignored"), evaluate(work, ground_truth="alphabetical.json")
    assert all(abs(default - other) > 0.01 for other in others)
    return default


@pytest.mark.parametrize("backend", ["ort-fp32", "ort-int8"])
def test_the_gate_of_the_export(work: Path, expected: float, backend: str) -> None:
    if backend != "ort-fp32":
        detect(work, backend)
        int8 = evaluate(work, detections=f"{backend}.json")
        assert int8 != expected
        expected = int8
    videos = read_validation(
        work / "gt.json", work / "feats", subset="validation", channels=tiny.CHANNELS, length=tiny.LENGTH
    )
    prompts = Localizer.open(work / "stale_bundle").encode_prompts(NAMES)
    gate = MapGate(videos=videos, prompts=prompts, max_drop=0.5)
    measured = gate.measure((work / "stale_bundle" / LOCALIZER_BACKENDS[backend].file).read_bytes())
    assert measured == pytest.approx(100 * expected, abs=1e-9)


def test_the_validation_of_the_training(work: Path, expected: float, checkpoint: Path, clip_folder: Path) -> None:
    trained = read_original_checkpoint(checkpoint, str(clip_folder))
    truth = read_ground_truth(work / "gt.json", subset="validation")
    samples = select_videos(truth, work / "feats", NAMES, channels=tiny.CHANNELS).samples
    model = StaleWithText(trained.network, trained.tower)
    measured = validate(model, samples, NAMES, tokenize(trained.clip, NAMES), tiny.LENGTH)
    assert measured == pytest.approx(expected, abs=1e-9)


def test_the_bench(work: Path, expected: float) -> None:
    done = command.run(
        "stale-bench", "--lengths", str(tiny.LENGTH), "--budget", "1", "--format", "json", "--backend", "ort-fp32",
        "--prompts", "classes.txt", "--features", "feats", "--ground-truth", "gt.json", "--subset", "validation",
        cwd=work,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["map"]["average"] == pytest.approx(expected, abs=1e-9)
