"""``stale-eval``: computes the mean average precision of detections."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from stale_runtime import __version__
from stale_runtime.detections import FRACTION
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.ground_truth import GroundTruth, read_ground_truth
from stale_runtime.evaluation.mean_average_precision import MeanAveragePrecision, mean_average_precision
from stale_runtime.evaluation.results import ResultsFile, read_results
from stale_runtime.inputs.prompts import read_prompts
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, Thresholds

NAME = "stale-eval"


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What ``stale-eval`` is asked to do."""

    detections: Path
    """File in ActivityNet's results format."""
    ground_truth: Path
    """File of annotations."""
    subset: str | None
    """Subset of the videos to evaluate; None for all."""
    classes: Path | None
    """File of the class names to evaluate; None for all."""
    tious: tuple[float, ...]
    """tIoU thresholds, each in (0, 1]."""
    foreign_labels: Literal["published", "ignored"]
    """How detections of classes without ground truth are treated."""
    output_format: Literal["table", "json"]

    def read(self) -> tuple[ResultsFile, GroundTruth]:
        """Read detections and annotations.

        Raises:
            DatasetError: one of them cannot be used, or they do not belong together.
        """
        found = read_results(self.detections)
        if found.unit == FRACTION:
            raise DatasetError(
                f"{self.detections}: times are fractions of the video; give stale-run --durations for seconds"
            )
        truth = read_ground_truth(self.ground_truth, subset=self.subset)
        if self.classes is not None:
            truth = truth.of_classes(frozenset(read_prompts(self.classes).names))
        if not any(video.annotations for video in truth.videos.values()):
            raise DatasetError(
                f"{self.ground_truth}: no annotation of these classes and this subset; check --classes, --subset"
            )
        if not found.videos.keys() & truth.videos.keys():
            raise DatasetError(
                f"{self.detections}: no video in common with {self.ground_truth}; check ids and --subset"
            )
        return found, truth


@click.command()
@click.argument("detections", type=PATH)
@click.option("--ground-truth", required=True, type=PATH, metavar="FILE", help="Annotations in ActivityNet's JSON.")
@click.option("--subset", metavar="NAME", help="Evaluate only videos of this subset, such as validation.")
@click.option("--classes", type=PATH, metavar="FILE", help="Evaluate only the classes in this file, one name per line.")
@click.option(
    "--tiou",
    "tious",
    type=Thresholds(),
    default="0.5:0.05:0.95",
    show_default=True,
    help="tIoU thresholds that mAP is computed at, and averaged over.",
)
@click.option(
    "--foreign-labels",
    type=click.Choice(["published", "ignored"]),
    default="published",
    show_default=True,
    help="How detections of classes without ground truth count: as in the published evaluation, or not at all.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print the result; json has all digits.",
)
@click.version_option(__version__, prog_name=NAME)
def stale_eval(**options: Any) -> None:
    """Evaluate DETECTIONS, in ActivityNet's results format, by mean average precision.

    Every video of the ground truth (of its --subset, if given) counts, whether it has detections or not.

    The published evaluation counts a detection of a class without ground truth against an unrelated class, or drops
    it, depending on how classes happen to be numbered. That is the default, for comparison with published numbers;
    if it makes a difference, stderr shows the result of --foreign-labels ignored.

    THUMOS14: --tiou 0.3:0.1:0.7
    """
    request = EvaluationRequest(**options)
    found, truth = request.read()
    published = request.foreign_labels == "published"
    result = mean_average_precision(
        found.videos, truth, tious=request.tious, foreign_labels=request.foreign_labels, foreign_videos="ignored"
    )
    for note in _notes(result, found, truth, published):
        console.note(NAME, note)
    console.echo(_json(result) if request.output_format == "json" else _table(result))


def main() -> None:
    """Run ``stale-eval``."""
    console.run_command(stale_eval, NAME)


def _notes(result: MeanAveragePrecision, found: ResultsFile, truth: GroundTruth, published: bool) -> Iterator[str]:
    """What the user should know in addition to the result."""
    if result.foreign_videos:
        yield f"ignored: {result.foreign_videos} videos with detections that are not in the ground truth"
    annotated = {video for video, known in truth.videos.items() if known.annotations}
    missing = len(annotated - found.videos.keys())
    if missing:
        yield f"{missing} of {len(annotated)} annotated videos have no detections; they lower the result"
    if result.foreign_label_detections and published:
        tious = tuple(result.per_tiou)
        other = mean_average_precision(
            found.videos, truth, tious=tious, foreign_labels="ignored", foreign_videos="ignored"
        ).average
        yield (
            f"{result.foreign_label_detections} detections are of classes without ground truth; counted as in the "
            f"published evaluation, the average is {result.average:.4f}; with --foreign-labels ignored, {other:.4f}"
        )


def _table(result: MeanAveragePrecision) -> str:
    from tabulate import tabulate  # only tables need it

    rows = [(f"{tiou:.2f}", f"{100 * value:.2f}") for tiou, value in result.per_tiou.items()]
    rows.append(("average", f"{100 * result.average:.2f}"))
    table = tabulate(rows, ("tIoU", "mAP %"), disable_numparse=True, colalign=("right", "right"))
    return f"{table}\n{result.videos} videos, {result.classes} classes with ground truth"


def _json(result: MeanAveragePrecision) -> str:
    per_tiou = {_format_threshold(tiou): value for tiou, value in result.per_tiou.items()}
    content = {"average": result.average, "per_tiou": per_tiou, "videos": result.videos, "classes": result.classes}
    return json.dumps(content)


def _format_threshold(tiou: float) -> str:
    """A threshold with two decimals, as ActivityNet writes it, or with all of its digits if it has more."""
    return f"{tiou:.2f}" if round(tiou, 2) == tiou else repr(tiou)


if __name__ == "__main__":
    main()
