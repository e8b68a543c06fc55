"""The figures of an evaluation as a table and as JSON."""

import json
from collections.abc import Sequence

from stale_runtime.evaluation.average_recall import SHOWN_PROPOSALS
from stale_runtime.evaluation.measured import Measured


def evaluation_table(measured: Measured) -> str:
    """A table for people, in percent."""
    result, point, recall = measured.precision, measured.point, measured.recall
    rows = [(f"{tiou:.2f}", value) for tiou, value in result.per_tiou.items()]
    shares = [
        ("precision", point.precision),
        ("recall", point.recall),
        ("F1", point.f1),
        *((f"AR@{n}", recall.at(n)) for n in SHOWN_PROPOSALS),
        ("area under AR", recall.area),
    ]
    where = "" if measured.min_score is not None else ", where F1 is best"
    return (
        f"{_percent_table([*rows, ('average', result.average)], ('tIoU', 'mAP %'))}\n\n"
        f"{_percent_table(shares, ('measure', '%'))}\n"
        f"precision, recall, F1: of detections that score {point.score:.4g} or more{where}, at tIoU "
        f"{measured.curve.tiou:.2f}\n"
        "mAP, AR: of all detections\n"
        f"{result.videos} videos, {result.classes} classes with ground truth\n"
        f"detections of classes without ground truth: {result.foreign_label_detections} "
        f"(--foreign-labels {measured.foreign_labels}); in other videos: {result.foreign_video_detections} "
        f"(--foreign-videos {measured.foreign_videos})"
    )


def _percent_table(rows: Sequence[tuple[str, float]], headers: tuple[str, str]) -> str:
    from tabulate import tabulate  # only tables need it

    cells = [(name, f"{100 * value:.2f}") for name, value in rows]
    return tabulate(cells, headers, disable_numparse=True, colalign=("right", "right"))


def evaluation_json(measured: Measured) -> str:
    """All digits for programs, as fractions of 1."""
    result, point = measured.precision, measured.point
    content = {
        "average": result.average,
        "per_tiou": {_format_threshold(tiou): value for tiou, value in result.per_tiou.items()},
        "videos": result.videos,
        "classes": result.classes,
        "foreign_labels": measured.foreign_labels,
        "foreign_label_detections": result.foreign_label_detections,
        "foreign_videos": measured.foreign_videos,
        "foreign_video_detections": result.foreign_video_detections,
        "ambiguous_segments": result.ambiguous_segments,
        "ambiguous_detections": result.ambiguous_detections,
        "per_class": dict(result.per_class),
        "from_score": {
            "score": point.score,
            "chosen_by": "best F1" if measured.min_score is None else "--min-score",
            "tiou": measured.curve.tiou,
            "precision": point.precision,
            "recall": point.recall,
            "f1": point.f1,
        },
        "average_recall": {
            **{f"AR@{n}": measured.recall.at(n) for n in SHOWN_PROPOSALS},
            "area": measured.recall.area,
        },
    }
    return json.dumps(content)


def _format_threshold(tiou: float) -> str:
    """A threshold with two decimals, as ActivityNet writes it, or with all of its digits if it has more."""
    return f"{tiou:.2f}" if round(tiou, 2) == tiou else repr(tiou)
