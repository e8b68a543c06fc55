"""``python -m stale_model.demo.demo_summary``: what the demo found, in numbers and as timelines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import GroundTruth, read_ground_truth
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from stale_runtime.evaluation.results import ResultsFile, read_results
from stale_runtime.exit_codes import describe_exit_codes
from stale_runtime.inputs.prompts import read_prompts
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH

NAME = "python -m stale_model.demo.demo_summary"
COLUMNS = 60
"""Characters of a timeline."""
TIMELINES = 3
_SHOWN = 0.5
"""Timelines show detections with at least this part of the score of the video's best."""
_CAVEAT = (
    "The videos are drawings from one program, and the towers were trained on drawings from the same one.\n"
    "This shows that the whole path works. It does not show how good STALE is on real videos."
)


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """What was found in the videos of some classes."""

    videos: tuple[str, ...]
    """Ids of the videos that begin with an action of one of these classes."""
    right: tuple[str, ...]
    """Those of them whose best detection has the class of one of their actions."""
    average: float
    """mAP over tIoU from 0.5 to 0.95, in [0, 1]."""


def summarise_split(found: ResultsFile, truth: GroundTruth, classes: Sequence[str]) -> SplitResult:
    """Count in how many videos the right class was found, and compute mAP as ``stale-eval`` does.

    Args:
        found: detections of all videos.
        truth: annotations of the same videos.
        classes: those of the split.
    """
    videos = [
        name for name, video in truth.videos.items() if video.annotations and _first_label(truth, name) in classes
    ]
    return SplitResult(
        videos=tuple(videos),
        right=tuple(name for name in videos if _is_right(found.videos.get(name, ()), truth, name)),
        average=mean_average_precision(found.videos, truth.of_classes(frozenset(classes))).average,
    )


def draw_text_timeline(name: str, found: Sequence[Detection], truth: GroundTruth) -> str:
    """The actions of a video over the detections in it, a line for each class.

    Args:
        name: the video's id.
        found: its detections, in seconds.
        truth: its annotations, among others.
    """
    video = truth.videos[name]
    duration_s = video.duration_s or max(row.end_s for row in video.annotations)
    marked = [Detection(row.label, row.start_s, row.end_s, 1.0) for row in video.annotations]
    lines = [f"{name}, {duration_s:g} s"]
    lines += [f"  truth |{_bar(rows, duration_s, '=')}| {label}" for label, rows in _by_label(marked)]
    for label, rows in _by_label(best_apart(found)):
        scores = ", ".join(f"{row.score:.2f}" for row in sorted(rows, key=lambda row: row.start))
        lines.append(f"  found |{_bar(rows, duration_s, '#')}| {label} {scores}")
    return "\n".join(lines)


def best_apart(found: Sequence[Detection]) -> list[Detection]:
    """The best detections of a video of which no two overlap, and none has less than half of the best one's score."""
    kept: list[Detection] = []
    for row in sorted(found, key=lambda row: -row.score):
        if kept and row.score < _SHOWN * kept[0].score:
            break
        if all(row.end <= other.start or other.end <= row.start for other in kept):
            kept.append(row)
    return kept


def summarise_demo(folder: Path) -> str:
    """The summary of a demo's folder: a table, some timelines, and what they do not show.

    Args:
        folder: with ``annotations.json``, ``splits/`` and ``detections.json`` of the validation videos.

    Raises:
        DatasetError, PromptError: a file is missing or cannot be used.
    """
    found = read_results(folder / "detections.json")
    truth = read_ground_truth(folder / "annotations.json", subset="validation")
    splits = {name: read_prompts(folder / "splits" / f"{name}.txt").names for name in ("seen", "unseen")}
    results = {name: summarise_split(found, truth, classes) for name, classes in splits.items()}
    choices = sum(map(len, splits.values()))
    lines = [f"In each validation video, {choices} classes were looked for:", ""]
    for name, result in results.items():
        what = f"{len(splits[name])} {name} classes"
        lines.append(
            f"  {what:<18}  right class in {len(result.right)} of {len(result.videos)} videos, "
            f"mAP {100 * result.average:.1f} %"
        )
    lines += ["", "The first videos of unseen classes, of which neither the towers nor the network saw any example:"]
    for name in results["unseen"].videos[:TIMELINES]:
        lines += ["", draw_text_timeline(name, found.videos.get(name, ()), truth)]
    return "\n".join([*lines, "", _CAVEAT])


def _first_label(truth: GroundTruth, name: str) -> str:
    return truth.videos[name].annotations[0].label


def _is_right(found: Sequence[Detection], truth: GroundTruth, name: str) -> bool:
    labels = {row.label for row in truth.videos[name].annotations}
    return bool(found) and max(found, key=lambda row: row.score).label in labels


def _by_label(rows: Iterable[Detection]) -> list[tuple[str, list[Detection]]]:
    groups: dict[str, list[Detection]] = {}
    for row in sorted(rows, key=lambda row: row.start):
        groups.setdefault(row.label, []).append(row)
    return list(groups.items())


def _bar(rows: Sequence[Detection], duration_s: float, mark: str) -> str:
    middles_s = [(column + 0.5) * duration_s / COLUMNS for column in range(COLUMNS)]
    return "".join(mark if any(row.start <= middle < row.end for row in rows) else " " for middle in middles_s)


@click.command(epilog=describe_exit_codes())
@click.argument("folder", type=PATH)
@click.option("--page", type=PATH, metavar="FILE", help="A page of the same videos, to name at the end.")
def demo_summary(folder: Path, page: Path | None) -> None:
    """Tell what was found in the demo's validation videos.

    FOLDER is that of python -m stale_model.demo, with the detections of its validation videos in detections.json.
    """
    console.echo(summarise_demo(folder))
    if page is not None:
        console.echo(f"\nTo look at the videos, with what was found in them: {page.absolute()}")


def main() -> None:
    """Run ``python -m stale_model.demo.demo_summary``."""
    console.run_command(demo_summary, NAME)


if __name__ == "__main__":
    main()
