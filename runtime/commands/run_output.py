"""What ``stale-run`` writes: the result in the format that was asked for, and one line on what was found."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stale_runtime import __version__
from stale_runtime.batch.batch import BatchRun
from stale_runtime.commands.run_preparation import NAME
from stale_runtime.commands.run_request import RunRequest
from stale_runtime.detections import FRACTION, VideoDetections
from stale_runtime.errors import StaleError
from stale_runtime.evaluation.video_labels import ExternalMode
from stale_runtime.formats.frames import round_frame_rate
from stale_runtime.formats.result_rows import run_details
from stale_runtime.formats.run_result import RunResult
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE
from stale_runtime.inputs.shards import Listing
from stale_runtime.inputs.videos import is_video
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.text import as_text
from stale_runtime.terminal import console
from stale_runtime.terminal.output import write_output, write_output_folder

if TYPE_CHECKING:
    from stale_runtime.evaluation.ground_truth import GroundTruth
    from stale_runtime.formats.shard_end import ShardEnd

_EXTERNAL: Mapping[ExternalMode, str] = {
    "surer": "labels of detections that do not score above it are overridden by an external classifier",
    "always": "all labels are overridden by an external classifier",
}
_NOT_ZERO_SHOT = "this is not a zero-shot result"


@dataclass(frozen=True, kw_only=True)
class RunOutput:
    """How the result of a run is written."""

    request: RunRequest
    task: BatchRun
    min_score: float | None
    """Score from which on detections are written; None for all."""
    ground_truth: "GroundTruth | None"
    """Annotations to show beside them."""
    listing: Listing | None
    """All videos of the run, of which these are those of a shard; None if they are all."""
    made: dict[Path, Path] = field(default_factory=dict)
    """Where the content of a file lies that is made as soon as its video is done, by the path of the video."""

    @classmethod
    def prepare(cls, request: RunRequest, task: BatchRun, listing: Listing | None = None) -> "RunOutput":
        """Read what only the output needs, before the work begins.

        Raises:
            DatasetError: the annotations cannot be used.
        """
        path, truth = request.ground_truth, None
        if path is not None:
            from stale_runtime.evaluation.ground_truth import read_ground_truth  # only --ground-truth needs it

            truth = read_ground_truth(path, subset=request.subset, option="--subset").spelt_like(task.prompts.names)
        return cls(
            request=request,
            task=task,
            min_score=choose_min_score(request, task.localizer),
            ground_truth=truth,
            listing=listing,
        )

    def report_settings(self) -> dict[str, Any]:
        """The settings of the run and of its output, for the report."""
        shard = {} if self.request.shard is None else {"shard": str(self.request.shard)}
        written = {"format": self.request.form.name, "min_score": self.min_score}
        return {**self.task.report_settings(), **shard, **written}

    @property
    def streams(self) -> bool:
        """Whether each video is printed as soon as it is done."""
        return self.request.form.name == "jsonl" and self.request.output is None

    def print_line(self, outcome: Outcome) -> bool:
        """Print a finished video as a line of JSON.

        Returns:
            Whether somebody still reads.
        """
        if outcome.detections is None:
            return True
        result = self._result([outcome])
        return console.echo(self.request.form.content(result).decode(), nl=False)

    @property
    def makes_early(self) -> bool:
        """Whether files are made as soon as their video is done: what pages show would fill the memory."""
        return self.request.form.shows_evidence and self.request.writes_folder

    def make_early(self, outcome: Outcome, folder: Path) -> Outcome:
        """Make the file of a finished video, to be written with the others later.

        Args:
            outcome: of the video.
            folder: a temporary one.

        Returns:
            The outcome without what only the file shows.

        Raises:
            click.UsageError: there is no place for the file.
        """
        output = self.request.output
        if outcome.detections is None or output is None:
            return outcome
        result = self._result([outcome]).of_video(0, output=output / outcome.path.name)
        place = folder / str(len(self.made))
        try:
            place.write_bytes(self.request.form.content(result))
        except OSError as problem:
            raise click.UsageError(f"-o {output}: {why_unwritten(problem)}") from problem
        self.made[outcome.path] = place
        return outcome._replace(detections=replace(outcome.detections, evidence=None))

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Write the videos that did not fail, and say what was found.

        Raises:
            click.UsageError: a file cannot be written.
            OutputError: stdout cannot be written.
        """
        result = self._result(outcomes)
        if not result.videos and self.listing is None:
            return
        form, output = self.request.form, self.request.output
        if self.request.external_classifier is not None and form.name != "json":
            console.note(NAME, f"{_EXTERNAL[self.task.external_mode]}: {_NOT_ZERO_SHOT}")
        if form.name == "csv" and result.unit == FRACTION:
            console.note(NAME, "times are fractions of the video; give --durations FILE for seconds")
        if output is not None and self.request.writes_folder:
            write_output_folder(form.files(result, output, self.made), output)
        elif not self.streams:
            write_output(form.render(result), output)
        looks_empty = form.for_people and form.name != "table" and result.is_all_below
        if output is not None or self.request.verbose or sys.stdout.isatty() or looks_empty:
            index = None if form.index is None else form.index[0]
            console.note(NAME, describe_result(result, folder=self.request.writes_folder, index=index))

    def _result(self, outcomes: Sequence[Outcome]) -> RunResult:
        found = [(outcome.path, outcome.detections) for outcome in outcomes if outcome.detections is not None]
        paths, videos = tuple(path for path, _ in found), tuple(video for _, video in found)
        external = self._describe_external()
        settings = self._row_settings() if self.request.form.can_be_merged and not self.streams else {}
        manifest = self.task.localizer.bundle.manifest
        recipe = manifest.recipe
        if manifest.vision is not None and any(map(is_video, paths)):
            recipe = manifest.vision.recipe  # knows what the training's leaves open
        return RunResult(
            videos=videos,
            paths=paths,
            failed=tuple((outcome.path, outcome.error) for outcome in outcomes if outcome.error is not None),
            min_score=self.min_score,
            top=self.request.top,
            version=f"stale-edge {__version__}",
            run=run_details(self.task.report_settings()),
            settings=settings,
            end=self._shard_end(outcomes, settings),
            recipe=None if recipe == UNKNOWN_RECIPE else recipe.describe(),
            external=external,
            ground_truth=self.ground_truth,
            frame_rates=self._frame_rates(paths, videos) if self.request.form.needs_frame_rate else {},
            output=self.request.output,
        )

    def _describe_external(self) -> str | None:
        external = self.request.external_classifier
        return f"{_EXTERNAL[self.task.external_mode]}, {external.name}: {_NOT_ZERO_SHOT}" if external else None

    def _row_settings(self) -> dict[str, Any]:
        """What must be the same in two shards for their detections to belong together."""
        return {
            **self.task.journal_settings(),
            **self.task.report_settings(),
            "vision_precision": self.task.localizer.settings.vision_precision,  # also in a shard without videos
            "min_score": self.min_score,
            "top": self.request.top,
            "external": self._describe_external(),
        }

    def _shard_end(self, outcomes: Sequence[Outcome], settings: Mapping[str, Any]) -> "ShardEnd | None":
        """What is written at the end of a shard; None if it is none, or some of its videos were not reached."""
        shard = self.request.shard
        if shard is None or self.listing is None or len(outcomes) < len(self.task.paths):
            return None
        from stale_runtime.formats.shard_end import ShardEnd  # only shards need it

        return ShardEnd(shard=shard, videos=len(outcomes), listing=self.listing, settings=settings)

    def _frame_rates(self, paths: Sequence[Path], videos: Sequence[VideoDetections]) -> dict[str, float]:
        rates = {}
        for path, video in zip(paths, videos, strict=True):
            rate = frame_rate(path) if is_video(path) else self.request.fps
            if rate is not None:
                rates[video.video] = rate
        return rates


def choose_min_score(request: RunRequest, localizer: Localizer) -> float | None:
    """The score from which on detections are written; None for all."""
    if request.min_score is not None:
        return request.min_score
    if not request.form.for_people:
        return None
    return localizer.reading_score


def frame_rate(video: Path) -> float | None:
    """Frames a second of a video file, on average; None if it cannot be read any more."""
    from stale_runtime.video.video_reader import probe_video  # only videos need it

    try:
        known = probe_video(video)
    except StaleError:
        return None
    return round_frame_rate(known.frames / known.duration_s)


def describe_result(result: RunResult, *, folder: bool, index: str | None = None) -> str:
    """What was found and written, in one line.

    Args:
        result: the run.
        folder: whether ``result.output`` is a folder, with a file of each video.
        index: name of the file in the folder that leads to the others.
    """
    rows = [row for video in result.shown for row in video]
    classes, videos = len({row.label for row in rows}), len(result.videos)
    found = f"{_count(len(rows), 'action')} of {_count(classes, 'class', 'es')}" if rows else "no actions"
    where = as_text(result.paths[0].name) if videos == 1 else f"{videos:,} videos"
    if result.end is not None:
        where = f"shard {result.end.shard}, {videos:,} of {result.end.listing.videos:,} videos"
    score = "" if result.min_score is None else f" (score {result.min_score:.4g} and above)"
    if result.is_all_below:
        score = f" (score {result.min_score:.4g} and above; {result.below:,} score less: --min-score 0 shows them)"
    if result.output is None:
        return f"{found} in {where}{score}"
    files = f" to {result.output}"
    if folder:
        lead = "" if index is None else f"; open {result.output / index}"
        files = f" in {result.output}, a file a video{lead}"
    return f"{found} in {where}{score}, written{files}"


def _count(n: int, what: str, plural: str = "s") -> str:
    return f"{n:,} {what}{'' if n == 1 else plural}"
