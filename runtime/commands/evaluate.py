"""``stale-eval``: computes the mean average precision of detections."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import click

from stale_runtime import __version__
from stale_runtime.commands.evaluation_output import evaluation_json, evaluation_table
from stale_runtime.detections import FRACTION
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.average_recall import AverageRecall, average_recall
from stale_runtime.evaluation.ground_truth import GroundTruth, read_ground_truth
from stale_runtime.evaluation.label_spelling import respell
from stale_runtime.evaluation.matching import ForeignRule
from stale_runtime.evaluation.mean_average_precision import MeanAveragePrecision, mean_average_precision
from stale_runtime.evaluation.measured import Measured
from stale_runtime.evaluation.mistakes import find_mistakes
from stale_runtime.evaluation.results import ResultsFile, read_results
from stale_runtime.evaluation.score_threshold import ScoreCurve, score_curve
from stale_runtime.evaluation.thumos14 import CLASS_LIST, is_text_form, read_class_numbers
from stale_runtime.evaluation.video_info import read_video_info
from stale_runtime.exit_codes import describe_exit_codes
from stale_runtime.inputs.prompts import read_prompts
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.text import fold
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, Number, Thresholds
from stale_runtime.terminal.output import check_not_an_input, check_output, write_output

NAME = "stale-eval"


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What ``stale-eval`` is asked to do."""

    detections: Path
    """File in ActivityNet's results format, or in THUMOS14's text form."""
    ground_truth: Path
    """File of annotations, or THUMOS14's folder of text files."""
    subset: str | None
    """Subset of the videos to evaluate; None for all."""
    video_info: Path | None
    """File with the subset of each video; None to take the subsets from the annotations."""
    classes: Path | None
    """File of the class names to evaluate; None for all."""
    class_numbers: Path | None
    """File of the numbers of the classes, for detections in text form; None if the ground truth's folder has it."""
    tious: tuple[float, ...]
    """tIoU thresholds, each in (0, 1]."""
    foreign_labels: ForeignRule
    """What happens to detections of classes without ground truth."""
    foreign_videos: ForeignRule
    """What happens to detections in videos outside the ground truth."""
    results_txt: Path | None
    """File that a line is appended to; None for none."""
    min_score: float | None
    """Score from which on detections count for precision, recall and F1; None for the one where F1 is best."""
    output_format: Literal["table", "json", "html"]
    output: Path | None
    """File to write; None for stdout."""
    pages: Path | None
    """Folder of the videos' pages, which a page of the evaluation links to; None for no links."""

    def __post_init__(self) -> None:
        if self.results_txt is not None and "ignored" in (self.foreign_labels, self.foreign_videos):
            raise ValueError(
                "--results-txt with foreign labels or videos ignored: a line of results.txt does not say so; leave out "
                "'ignored', or use --format json"
            )
        if self.class_numbers is not None and not is_text_form(self.detections):
            raise ValueError(
                f"--class-numbers is for detections in text, and {self.detections} is not a .txt file; leave it out"
            )
        if self.pages is not None and self.output_format != "html":
            raise ValueError("--pages is for links in a page; give --format html, too, or leave it out")
        if self.pages is not None and self.output is None:
            raise ValueError("--pages without -o: links are relative to where the page lies; give -o FILE, too")
        if self.pages is not None and not self.pages.is_dir():
            raise ValueError(
                f"--pages {self.pages}: no such folder; expected what stale-run --format html -o FOLDER wrote"
            )

    def read(self) -> tuple[ResultsFile, GroundTruth]:
        """Read detections and annotations.

        Raises:
            DatasetError: one of them cannot be used, or they do not belong together.
        """
        found = read_results(self.detections, class_numbers=self._read_class_numbers())
        if found.unit == FRACTION:
            raise DatasetError(
                f"{self.detections}: times are fractions of the video; give stale-run --durations for seconds"
            )
        info = None if self.video_info is None else read_video_info(self.video_info)
        truth = read_ground_truth(self.ground_truth, subset=self.subset, video_info=info, option="--subset")
        if self.classes is not None:
            truth = self._keep_classes(truth, read_prompts(self.classes).names)
        if not truth.labels:
            raise DatasetError(
                f"{self.ground_truth}: no annotation of these classes and this subset; check --classes, --subset"
            )
        if not found.videos.keys() & truth.videos.keys():
            raise DatasetError(
                f"{self.detections}: no video in common with {self.ground_truth}; check ids and --subset"
            )
        videos, respelt = respell(found.videos, truth.labels)
        if respelt:
            console.note(NAME, _describe_respelt(self.detections, respelt))
        return replace(found, videos=videos), truth

    def _keep_classes(self, truth: GroundTruth, names: tuple[str, ...]) -> GroundTruth:
        kept = truth.of_classes(names)
        annotated = set(map(fold, kept.labels))
        if absent := [name for name in names if fold(name) not in annotated]:
            console.note(
                NAME,
                f"{len(absent)} of {len(names)} classes in {self.classes} have no annotation, such as {absent[0]!r}; "
                "they do not count",
            )
        return kept

    def evaluate(self, found: ResultsFile, truth: GroundTruth, **other: ForeignRule) -> MeanAveragePrecision:
        """Evaluate mAP as requested, or with another rule for foreign labels or videos."""
        return mean_average_precision(found.videos, truth, tious=self.tious, **{**self.rules, **other})

    def evaluate_scores(self, found: ResultsFile, truth: GroundTruth) -> ScoreCurve:
        """Precision, recall and F1 over scores, as requested."""
        return score_curve(found.videos, truth, foreign_labels=self.foreign_labels, foreign_videos=self.foreign_videos)

    def evaluate_recall(self, found: ResultsFile, truth: GroundTruth) -> AverageRecall:
        """AR@AN, as requested."""
        counts = (len(rows) for video, rows in found.videos.items() if self._is_counted(video, truth))
        return average_recall(found.videos, truth, proposals=sum(counts))

    def _is_counted(self, video: str, truth: GroundTruth) -> bool:
        return self.foreign_videos == "published" or video in truth.videos

    @property
    def rules(self) -> dict[str, ForeignRule]:
        """What happens to foreign labels and videos, as arguments of the evaluation."""
        return {"foreign_labels": self.foreign_labels, "foreign_videos": self.foreign_videos}

    def inputs(self) -> dict[str, Path | None]:
        """The files and folders that are read, by the option that names them."""
        return {
            "DETECTIONS": self.detections,
            "--ground-truth": self.ground_truth,
            "--video-info": self.video_info,
            "--classes": self.classes,
            "--class-numbers": self.class_numbers,
        }

    def _read_class_numbers(self) -> dict[int, str] | None:
        if self.class_numbers is not None:
            return read_class_numbers(self.class_numbers)
        beside = self.ground_truth / CLASS_LIST
        return read_class_numbers(beside) if is_text_form(self.detections) and os.path.isfile(beside) else None


@click.command(epilog=describe_exit_codes())
@click.argument("detections", type=PATH)
@click.option(
    "--ground-truth",
    required=True,
    type=PATH,
    metavar="PATH",
    help="Annotations in ActivityNet's JSON, or THUMOS14's folder of text files, one for each class.",
)
@click.option("--subset", metavar="NAME", help="Evaluate only videos of this subset, such as validation.")
@click.option(
    "--video-info",
    type=PATH,
    metavar="FILE",
    help="CSV file with the columns video, subset and seconds, such as the original code's video_info_new.csv. "
    "--subset needs it if the annotations do not say which subset a video is in.",
)
@click.option("--classes", type=PATH, metavar="FILE", help="Evaluate only the classes in this file, one name per line.")
@click.option(
    "--class-numbers",
    type=PATH,
    metavar="FILE",
    help="What the numbers of classes mean, if DETECTIONS is text.  [default: detclasslist.txt in --ground-truth]",
)
@click.option(
    "--tiou",
    "tious",
    type=Thresholds(),
    default="0.5:0.05:0.95",
    show_default=True,
    help="tIoU thresholds that mAP is computed at, and averaged over; START:STOP:STEP is understood too.",
)
@click.option(
    "--foreign-labels",
    type=click.Choice(["published", "ignored"]),
    default="published",
    show_default=True,
    help="How detections of classes without ground truth count: as in the published evaluation, or not at all.",
)
@click.option(
    "--foreign-videos",
    type=click.Choice(["published", "ignored"]),
    default="published",
    show_default=True,
    help="How detections in videos outside the ground truth or the subset count: as false positives, as in the "
    "published evaluations, or not at all.",
)
@click.option(
    "--results-txt",
    type=PATH,
    metavar="FILE",
    help="Also append a line to this file, as the original code does to its output/results.txt.",
)
@click.option(
    "--min-score",
    type=Number(0, math.inf),
    metavar="SCORE",
    help="Score from which on detections count for precision, recall and F1. mAP and average recall are of all "
    "detections, whatever this is.  [default: the score from which on F1 is best]",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "html"]),
    help="How to write the result. json has all digits; html is a page for a browser, with classes, curves and the "
    "worst videos.  [default: json or html if FILE of -o ends so, else table]",
)
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Write the result to this file.  [default: standard output]"
)
@click.option(
    "--pages",
    type=PATH,
    metavar="FOLDER",
    help="For --format html: the folder that stale-run --format html wrote; the worst videos link to their pages.",
)
@click.version_option(__version__, prog_name=NAME)
def stale_eval(**options: Any) -> None:
    """Evaluate DETECTIONS, in ActivityNet's results format, by mean average precision.

    Beside mAP: precision, recall and F1 from one score on, at tIoU 0.5 and over all classes together; and average
    recall at 1, 5, 10 and 100 proposals a video (AR@AN), whatever their class, as ActivityNet defines it.

    Every video of the ground truth (of its --subset, if given) counts, whether it has detections or not.

    The published evaluation counts a detection of a class without ground truth against an unrelated class, or drops
    it, depending on how classes happen to be numbered. It counts detections in videos outside the ground truth or the
    subset as false positives. Both are the default, for comparison with published numbers; where they make a
    difference, stderr shows the result of ignoring these detections. docs/evaluation.md has the details.

    THUMOS14: --tiou 0.3:0.1:0.7. The ground truth may be the folder of its toolkit, and a DETECTIONS.txt its results,
    with lines of VIDEO START END CLASS_NUMBER CONFIDENCE. Segments that are labelled Ambiguous are of no class, and
    excuse the detections that overlap them.
    """
    if options["output_format"] is None:
        named = "" if options["output"] is None else options["output"].suffix.lower()
        options["output_format"] = {".json": "json", ".html": "html"}.get(named, "table")
    try:
        request = EvaluationRequest(**options)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from problem
    for path, option in ((request.results_txt, "--results-txt"), (request.output, "-o")):
        check_output(path, option)
        check_not_an_input(path, request.inputs(), option)
    found, truth = request.read()
    result = request.evaluate(found, truth)
    for note in _notes(request, result, found, truth):
        console.note(NAME, note)
    write_output(_render(request, result, found, truth), request.output)
    if request.results_txt is not None:
        _append(request.results_txt, results_line(result))


def main() -> None:
    """Run ``stale-eval``."""
    console.run_command(stale_eval, NAME)


def results_line(result: MeanAveragePrecision) -> str:
    """The line that the original code's evaluation appends to its ``output/results.txt``, in percent.

    Source: ``eval.py`` of the authors' repository, and of the thesis's.
    """
    per_tiou = " ".join(f"mAP@{tiou:.2f} {100 * value:.3f}" for tiou, value in result.per_tiou.items())
    return f"Detection: average-mAP {100 * result.average:.3f} {per_tiou}\n"


def _append(path: Path, line: str) -> None:
    try:
        with open(path, "a", encoding="utf-8", newline="\n") as file:
            file.write(line)
    except OSError as problem:
        raise click.UsageError(f"--results-txt {path}: {why_unwritten(problem)}") from problem


def _notes(
    request: EvaluationRequest, result: MeanAveragePrecision, found: ResultsFile, truth: GroundTruth
) -> Iterator[str]:
    """What the user should know in addition to the result."""
    if found.swapped:
        yield (
            f"{found.swapped} detections of {request.detections} end before they start; start and end are swapped, as "
            "in THUMOS14's toolkit"
        )
    if (told := truth.spellings.describe()) is not None:
        yield f"{request.ground_truth}: {told}"
    if truth.outside_segments:
        yield (
            f"{truth.outside_segments} annotations lie wholly outside their video; they count, as in the published "
            "evaluation, although no detection can find them"
        )
    if truth.unlisted:
        yield f"{len(truth.unlisted)} annotated videos are not in {request.video_info} and are not evaluated"
    annotated = {video for video, known in truth.videos.items() if known.annotations}
    missing = len(annotated - found.videos.keys())
    if missing:
        remedy = "" if request.subset else "; if detections are of one subset only, give --subset NAME"
        yield f"{missing} of {len(annotated)} annotated videos have no detections and lower the result{remedy}"
    if result.foreign_videos:
        what = f"{result.foreign_video_detections} detections are in {result.foreign_videos} videos outside the ground"
        yield f"{what} truth; {_difference(request, result, found, truth, 'foreign_videos')}"
    if result.foreign_label_detections:
        what = f"{result.foreign_label_detections} detections are of classes without ground truth"
        yield f"{what}; {_difference(request, result, found, truth, 'foreign_labels')}"
    if result.ambiguous_segments:
        charged = request.evaluate(found, truth.without_ambiguous()).average
        yield (
            f"{result.ambiguous_segments} segments are labelled Ambiguous, which is no class; "
            f"{result.ambiguous_detections} detections overlap one and are ignored where they match nothing, as in "
            f"THUMOS14's toolkit: the average is {100 * result.average:.2f} %; as false positives, "
            f"{100 * charged:.2f} %"
        )


def _describe_respelt(path: Path, respelt: Mapping[str, str]) -> str:
    label, known = min(respelt.items())
    return (
        f"{path}: labels that differ from those of the annotations only in capitals, blanks or invisible marks "
        f"count as these: {len(respelt)}, such as {label!r} as {known!r}"
    )


def _difference(
    request: EvaluationRequest, result: MeanAveragePrecision, found: ResultsFile, truth: GroundTruth, rule: str
) -> str:
    """What the average is with the chosen rule for foreign detections, and with the other."""
    chosen = getattr(request, rule)
    other: ForeignRule = "ignored" if chosen == "published" else "published"
    average = request.evaluate(found, truth, **{rule: other}).average
    option = f"--{rule.replace('_', '-')} {other}"
    if average == result.average:
        return f"{chosen if chosen == 'ignored' else 'counted as published'}; {option} would give the same"
    how = "ignored" if chosen == "ignored" else "counted as in the published evaluation"
    return f"{how}, the average is {100 * result.average:.2f} %; with {option}, {100 * average:.2f} %"


def _render(request: EvaluationRequest, result: MeanAveragePrecision, found: ResultsFile, truth: GroundTruth) -> str:
    curve, recall = request.evaluate_scores(found, truth), request.evaluate_recall(found, truth)
    measured = Measured(
        precision=result,
        curve=curve,
        recall=recall,
        min_score=request.min_score,
        foreign_labels=request.foreign_labels,
        foreign_videos=request.foreign_videos,
    )
    if request.output_format == "html":
        return _page(request, measured, found, truth)
    return (evaluation_json if request.output_format == "json" else evaluation_table)(measured) + "\n"


def _page(request: EvaluationRequest, measured: Measured, found: ResultsFile, truth: GroundTruth) -> str:
    from stale_runtime.page.evaluation_page import evaluation_page  # only pages need it
    from stale_runtime.page.page_folder import find_pages

    score, tiou = measured.point.score, measured.curve.tiou
    mistakes = find_mistakes(found.videos, truth, min_score=score, tiou=tiou, **request.rules)
    pages = {}
    if request.pages is not None and request.output is not None:
        pages = find_pages(request.pages, truth.videos, page=request.output)
    return evaluation_page(measured, mistakes, name=request.detections.name, pages=pages)


if __name__ == "__main__":
    main()
