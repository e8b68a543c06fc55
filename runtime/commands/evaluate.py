"""``stale-eval``: detections and annotations in, mean average precision out."""

import json
from pathlib import Path

import click

from stale_runtime import __version__
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.ground_truth import GroundTruth, read_ground_truth
from stale_runtime.evaluation.mean_average_precision import MeanAveragePrecision, mean_average_precision
from stale_runtime.evaluation.results import FRACTION, Results, read_results
from stale_runtime.inputs.prompts import read_prompts
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH

NAME = "stale-eval"
MOST_TIOUS = 1000


def _thresholds(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """Parse ``0.5:0.05:0.95`` or ``0.5,0.75,0.95``."""
    try:
        if ":" in value:
            start, step, stop = map(float, value.split(":"))
            count = int((stop - start) / step + 1.5) if step > 0 else 0
            thresholds = tuple(round(start + step * i, 10) for i in range(min(count, MOST_TIOUS + 1)))
        else:
            thresholds = tuple(map(float, value.split(",")))
    except (ValueError, OverflowError):
        thresholds = ()
    if len(thresholds) > MOST_TIOUS:
        raise click.BadParameter(f"{value[:40]!r}, expected at most {MOST_TIOUS:,} thresholds")
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise click.BadParameter(f"{value!r}, expected START:STEP:STOP or A,B,C, all in (0, 1], as 0.5:0.05:0.95")
    return thresholds


@click.command()
@click.argument("detections", type=PATH)
@click.option("--ground-truth", required=True, type=PATH, help="Annotations, ActivityNet's JSON.")
@click.option("--subset", help="Evaluate the videos of this subset, as validation; default: all.")
@click.option("--classes", type=PATH, help="Evaluate only the classes in this file, one a line.")
@click.option("--tiou", callback=_thresholds, default="0.5:0.05:0.95", show_default=True, help="tIoU thresholds.")
@click.option(
    "--foreign-labels",
    type=click.Choice(["published", "ignored"]),
    default="published",
    show_default=True,
    help="What becomes of detections of classes without ground truth.",
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.version_option(__version__, prog_name=NAME)
def stale_eval(
    detections: Path,
    ground_truth: Path,
    subset: str | None,
    classes: Path | None,
    tiou: tuple[float, ...],
    foreign_labels: str,
    form: str,
) -> None:
    """Evaluate DETECTIONS, in ActivityNet's results format, by mean average precision.

    Every video of the ground truth (of its --subset, if given) counts, whether it has detections or not.

    The published evaluation charges a detection of a class without ground truth to an unrelated class, or drops it,
    by accident of numbering. That is the default, to compare with published numbers; where it makes a difference,
    stderr says what --foreign-labels ignored gives.

    THUMOS14: --tiou 0.3:0.1:0.7
    """
    found = read_results(detections)
    if found.unit == FRACTION:
        raise DatasetError(f"{detections}: times are fractions of the video; give stale-run --durations for seconds")
    truth = read_ground_truth(ground_truth, subset=subset)
    if classes is not None:
        truth = truth.of_classes(frozenset(read_prompts(classes).names))
    if not any(video.annotations for video in truth.videos.values()):
        raise DatasetError(f"{ground_truth}: no annotation of these classes and this subset; check --classes, --subset")
    if not found.videos.keys() & truth.videos.keys():
        raise DatasetError(f"{detections}: no video in common with {ground_truth}; check ids and --subset")
    result = mean_average_precision(found.videos, truth, tious=tiou, charge_foreign=foreign_labels == "published")
    _warn(result, found, truth, foreign_labels)
    console.echo(_json(result) if form == "json" else _table(result))


def main() -> None:
    """Run ``stale-eval``."""
    console.run(stale_eval, NAME)


def _warn(result: MeanAveragePrecision, found: Results, truth: GroundTruth, foreign_labels: str) -> None:
    if result.ignored_videos:
        console.note(NAME, f"ignored: {result.ignored_videos} videos with detections that the ground truth lacks")
    annotated = {video for video, known in truth.videos.items() if known.annotations}
    missing = len(annotated - found.videos.keys())
    if missing:
        console.note(NAME, f"{missing} of {len(annotated)} annotated videos have no detections; they count against it")
    if result.foreign_detections and foreign_labels == "published":
        tious = tuple(result.per_tiou)
        other = mean_average_precision(found.videos, truth, tious=tious, charge_foreign=False).average
        console.note(
            NAME,
            f"{result.foreign_detections} detections are of classes without ground truth; treated as the published "
            f"evaluation does, average {result.average:.4f}; with --foreign-labels ignored, {other:.4f}",
        )


def _table(result: MeanAveragePrecision) -> str:
    from tabulate import tabulate  # only tables need it

    rows = [(f"{tiou:.2f}", f"{100 * value:.2f}") for tiou, value in result.per_tiou.items()]
    rows.append(("average", f"{100 * result.average:.2f}"))
    table = tabulate(rows, ("tIoU", "mAP %"), disable_numparse=True, colalign=("right", "right"))
    return f"{table}\n{result.videos} videos, {result.classes} classes with ground truth"


def _json(result: MeanAveragePrecision) -> str:
    per_tiou = {_key(tiou): value for tiou, value in result.per_tiou.items()}
    content = {"average": result.average, "per_tiou": per_tiou, "videos": result.videos, "classes": result.classes}
    return json.dumps(content)


def _key(tiou: float) -> str:
    """Two decimals, as ActivityNet writes thresholds, or all that a finer one has."""
    return f"{tiou:.2f}" if round(tiou, 2) == tiou else repr(tiou)
