"""What the manifest says of the validation videos: how sure each change of mAP is, and the score worth reading."""

from dataclasses import replace

from stale_export.say import Say
from stale_export.validation_gate import Found, MapGate
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.bundle.reading_score import MOST_POINTS, ReadingScore
from stale_runtime.evaluation.ground_truth import GroundTruth
from stale_runtime.evaluation.map_change import map_change
from stale_runtime.evaluation.score_threshold import score_curve


def record_map_change(
    record: QuantizationRecord, found: Found, baseline: Found, truth: GroundTruth, *, say: Say
) -> QuantizationRecord:
    """Add to the record of an int8 graph the interval of its change of mAP, from a paired bootstrap over videos.

    Args:
        record: of the int8 graph.
        found: what is found with it, in the videos of ``truth``.
        baseline: what is found in float.
        truth: annotations.
        say: called with one line.
    """
    change = map_change(found, baseline, truth)
    doubt = "; these videos do not tell that from chance" if change.may_be_chance else ""
    say(f"{record.file}: change of mAP {change.describe()} on {len(truth.videos):,} videos{doubt}")
    return replace(record, map_change_low=change.low, map_change_high=change.high)


def record_reading_score(gate: MapGate, file: str, found: Found, *, say: Say) -> ReadingScore | None:
    """Find the score from which on F1 is best; None if nothing is found.

    Args:
        gate: has the videos.
        file: the graph that stale-run takes by default.
        found: what it finds.
        say: called with one line.
    """
    curve = score_curve(found, gate.videos.truth)
    best, thinned = curve.best, curve.thin(MOST_POINTS)
    if best is None:
        return None
    say(
        f"{file}: F1 is best, {100 * best.f1:.1f} %, from score {best.score:.3f} on: precision "
        f"{100 * best.precision:.1f} %, recall {100 * best.recall:.1f} % at tIoU {curve.tiou}"
    )
    return ReadingScore(
        score=best.score,
        precision=best.precision,
        recall=best.recall,
        f1=best.f1,
        tiou=curve.tiou,
        videos=len(gate.videos.truth.videos),
        file=file,
        curve_scores=thinned.scores,
        curve_precision=thinned.precision,
        curve_recall=thinned.recall,
    )
