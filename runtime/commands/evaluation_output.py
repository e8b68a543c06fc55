"""The figures of an evaluation as a table and as JSON."""

import json

from stale_runtime.evaluation.measured import Measured

AVERAGE_PROPOSALS = (1, 5, 10, 100)
"""Average numbers of proposals at which recall is shown."""


def evaluation_table(measured: Measured) -> str:
    """A table for people, in percent."""
    from tabulate import tabulate  # only tables need it

    result, point, recall = measured.precision, measured.point, measured.recall
    rows = [(f"{tiou:.2f}", f"{100 * value:.2f}") for tiou, value in result.per_tiou.items()]
    rows.append(("average", f"{100 * result.average:.2f}"))
    table = tabulate(rows, ("tIoU", "mAP %"), disable_numparse=True, colalign=("right", "right"))
    recalls = ", ".join(f"AR@{n} {100 * recall.at(n):.2f} %" for n in AVERAGE_PROPOSALS)
    return (
        f"{table}\n"
        f"from score {point.score:.3f} on{'' if measured.min_score is not None else ', where F1 is best'}: "
        f"precision {100 * point.precision:.2f} %, recall {100 * point.recall:.2f} %, F1 {100 * point.f1:.2f} % "
        f"(tIoU {measured.curve.tiou:.2f}, all classes together); mAP and AR are of all detections\n"
        f"average recall, whatever the class: {recalls}; area under AR-AN {100 * recall.area:.2f} %\n"
        f"{result.videos} videos, {result.classes} classes with ground truth\n"
        f"foreign labels: {measured.foreign_labels} ({result.foreign_label_detections} detections); "
        f"foreign videos: {measured.foreign_videos} ({result.foreign_video_detections} detections)"
    )


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
            **{f"AR@{n}": measured.recall.at(n) for n in AVERAGE_PROPOSALS},
            "area": measured.recall.area,
        },
    }
    return json.dumps(content)


def _format_threshold(tiou: float) -> str:
    """A threshold with two decimals, as ActivityNet writes it, or with all of its digits if it has more."""
    return f"{tiou:.2f}" if round(tiou, 2) == tiou else repr(tiou)
