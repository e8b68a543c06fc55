"""What the manifest says of the validation videos: how sure each change of mAP is, and the score worth reading."""

from collections.abc import Mapping

from stale_export.say import Say
from stale_export.validation_gate import Found, MapGate
from stale_runtime.bundle.manifest import MapChangeRecord
from stale_runtime.bundle.reading_score import MOST_POINTS, ReadingScore
from stale_runtime.evaluation.map_change import MapChange, map_change
from stale_runtime.evaluation.score_threshold import score_curve


def record_map_changes(
    gate: MapGate, found: Mapping[str, Found], baseline: Found, *, say: Say
) -> tuple[MapChangeRecord, ...]:
    """Compare the mAP of int8 graphs with the float graph's, with an interval from a paired bootstrap over videos.

    Args:
        gate: has the videos.
        found: what each int8 graph finds, by file name.
        baseline: what the float graph finds.
        say: called with one line a graph.
    """
    videos = len(gate.videos.features)
    records = []
    for file, detections in found.items():
        change = map_change(detections, baseline, gate.videos.truth)
        say(f"{file}: mAP {change.describe()} against float on {videos} videos{_judge(change)}")
        records.append(
            MapChangeRecord(file=file, difference=change.difference, low=change.low, high=change.high, videos=videos)
        )
    return tuple(records)


def _judge(change: MapChange) -> str:
    return "; so few videos do not tell it from no change" if change.may_be_chance else ""


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
        videos=len(gate.videos.features),
        file=file,
        curve_scores=thinned.scores,
        curve_precision=thinned.precision,
        curve_recall=thinned.recall,
    )
