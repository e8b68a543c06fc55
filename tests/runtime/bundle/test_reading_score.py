import json
import math
from dataclasses import replace
from typing import Any

import pytest

from stale_runtime.bundle.manifest import Manifest
from stale_runtime.bundle.reading_score import DEFAULT_READING_SCORE, MOST_POINTS, ReadingScore
from stale_runtime.errors import BundleError
from tests.runtime.bundle.test_manifest import MANIFEST, encoded

READING = ReadingScore(
    score=0.45,
    precision=0.9,
    recall=0.6,
    f1=0.72,
    tiou=0.5,
    videos=96,
    file="localizer.int8.onnx",
    curve_scores=(0.9, 0.45, 0.1),
    curve_precision=(1.0, 0.9, 0.2),
    curve_recall=(0.1, 0.6, 0.8),
)


def test_a_manifest_keeps_the_score_and_its_curve() -> None:
    manifest = replace(MANIFEST, reading_score=READING)
    assert Manifest.from_bytes(manifest.to_bytes()).reading_score == READING


def test_a_bundle_of_the_version_before_has_no_such_score() -> None:
    manifest = replace(MANIFEST, format_version=3)
    content = json.loads(manifest.to_bytes())
    assert "reading_score" not in content
    assert Manifest.from_bytes(encoded(content)).reading_score is None
    with pytest.raises(BundleError, match="has reading_score in format_version 3"):
        Manifest.from_bytes(encoded(content | {"reading_score": None}))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"score": math.nan}, "score of nan"),
        ({"score": -0.1}, "score of -0.1"),
        ({"curve_scores": (math.inf, 0.45, 0.1)}, "score of inf"),
        ({"curve_scores": (0.1, 0.45, 0.9)}, "out of order"),
        ({"curve_scores": (0.9, 0.45)}, "2 scores, 3 precisions and 3 recalls"),
        ({"curve_recall": (0.1, 0.6, 1.1)}, "share of 1.1"),
        ({"curve_recall": (0.6, 0.1, 0.8)}, "out of order"),
        ({"precision": math.nan}, "share of nan"),
        ({"f1": -1.0}, "share of -1.0"),
        ({"tiou": 0.0}, "tIoU 0.0"),
        ({"tiou": math.nan}, "tIoU nan"),
        ({"videos": 0}, "of 0 videos"),
        ({"curve_scores": (), "curve_precision": (), "curve_recall": ()}, "0 points"),
        (dict.fromkeys(("curve_scores", "curve_precision", "curve_recall"), (0.5,) * (MOST_POINTS + 1)), "102 points"),
    ],
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(READING, **wrong)


def test_a_manifest_with_such_a_score_is_refused_in_one_line() -> None:
    content = json.loads(replace(MANIFEST, reading_score=READING).to_bytes())
    content["reading_score"]["videos"] = -(10**30)
    with pytest.raises(BundleError) as raised:
        Manifest.from_bytes(encoded(content))
    assert "\n" not in str(raised.value)
    assert "copy the bundle again" in str(raised.value)


def test_the_default_is_a_score_of_the_standard_decoder() -> None:
    assert 0 < DEFAULT_READING_SCORE < 1
