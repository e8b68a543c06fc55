import pytest

from stale_export.validation_gate import MapGate, ValidationVideos
from stale_export.validation_record import record_map_change, record_reading_score
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation, GroundTruth
from tests import tiny
from tests.export.int8 import encode

TRUTH = GroundTruth(
    videos={f"v{i}": AnnotatedVideo(duration_s=9.0, annotations=(Annotation("jump", 1, 5),)) for i in range(12)}
)
FLOAT = {
    video: [Detection("jump", 1, 5, 0.9 - i / 100), Detection("jump", 6, 8, 0.1)]
    for i, video in enumerate(TRUTH.videos)
}
RECORD = QuantizationRecord(
    file="g.onnx",
    kind="dynamic",
    target="portable",
    weight_bits=7,
    integer_operators_expected=4,
    integer_operators_found=4,
    map_percent=90.0,
    fp32_map_percent=100.0,
)


def gate() -> MapGate:
    videos = ValidationVideos(truth=TRUTH, features={}, length=tiny.LENGTH)
    return MapGate(videos=videos, prompts=encode(tiny.make_network()), max_drop=0.5)


def test_a_clear_loss_has_an_interval_below_0_and_a_slight_one_is_said_to_be_chance() -> None:
    said: list[str] = []
    lost = {video: [] if i % 2 else rows for i, (video, rows) in enumerate(FLOAT.items())}
    record = record_map_change(RECORD, lost, FLOAT, TRUTH, say=said.append)
    assert record.map_change_low is not None
    assert record.map_change_high is not None
    assert -90 < record.map_change_low < -50 < record.map_change_high < -10
    (line,) = said
    assert line.startswith("g.onnx: change of mAP -50.00 (95 % interval -")
    assert line.endswith(") on 12 videos")
    moved = {**FLOAT, "v0": [Detection("jump", 1, 4.5, 0.9)]}
    record = record_map_change(RECORD, moved, FLOAT, TRUTH, say=said.append)
    assert record.map_change_high == 0
    assert said[-1].endswith("on 12 videos; these videos do not tell that from chance")


def test_the_score_worth_reading_leaves_out_what_is_wrong() -> None:
    said: list[str] = []
    reading = record_reading_score(gate(), "g.onnx", FLOAT, say=said.append)
    assert reading is not None
    assert reading.score == pytest.approx(0.79)
    assert (reading.precision, reading.recall, reading.f1) == (1, 1, 1)
    assert (reading.tiou, reading.videos, reading.file) == (0.5, 12, "g.onnx")
    assert reading.curve_scores[-1] == 0.1
    assert reading.curve_precision[-1] == 0.5
    assert said == ["g.onnx: F1 is best, 100.0 %, from score 0.790 on: precision 100.0 %, recall 100.0 % at tIoU 0.5"]


def test_where_nothing_is_found_no_score_is_worth_reading() -> None:
    assert record_reading_score(gate(), "g.onnx", {}, say=print) is None
