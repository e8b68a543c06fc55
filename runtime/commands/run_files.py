"""A run of ``stale-run`` over files: from the request to what is written and reported."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import click

from stale_runtime.batch.batch import Batch, BatchRun
from stale_runtime.batch.found_files import find_files, find_shard
from stale_runtime.batch.journal import Journal
from stale_runtime.bundle.bundle import find_bundle
from stale_runtime.commands.feature_warnings import FeatureWarnings
from stale_runtime.commands.report_file import RunReport, reported
from stale_runtime.commands.run_output import RunOutput
from stale_runtime.commands.run_preparation import NAME, describe_localizer, prepare_localizer
from stale_runtime.commands.run_request import RunRequest, says_duration
from stale_runtime.detections import VideoDetections
from stale_runtime.errors import BundleError
from stale_runtime.evaluation.video_labels import read_video_labels
from stale_runtime.exit_codes import SOME_FAILED
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inputs.shards import Listing
from stale_runtime.inputs.videos import is_video
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.workspace import workspace
from stale_runtime.terminal import console


def run_files(request: RunRequest) -> int:
    """Detect, write the results, and report on stderr what went wrong.

    Returns:
        The exit code.

    Raises:
        StaleError: an input that all videos need cannot be used, or a single video failed.
    """
    started = time.perf_counter()
    with reported(request.report) as report:
        paths, listing = _find(request)
        report.paths = paths
        request.check_inputs_are_kept(paths, _find_bundle(request))
        report.may_replace = True
        task = prepare_run(request, paths)
        output = RunOutput.prepare(request, task, listing)
        report.settings = output.report_settings()
        ready = time.perf_counter()
        batch = _process(request, task, output, report)
    if request.verbose:
        through_windows = sum(video.window is not None for video in batch.found)
        videos = f"{len(task.paths)} videos, {through_windows} of them through windows"
        times = f"ready in {ready - started:.3f} s, {videos}, in {time.perf_counter() - ready:.3f} s"
        console.note(NAME, f"{describe_localizer(task.localizer)}; {len(task.prompts.names)} prompts; {times}")
    return _conclude(batch, is_shard=listing is not None)


def _find(request: RunRequest) -> tuple[list[Path], Listing | None]:
    """The files of the run; of a shard also the listing of all shards."""
    say = partial(console.note, NAME)
    if request.shard is None:
        return find_files(request.features, say=say), None
    return find_shard(request.features, request.shard, say=say)


def _process(request: RunRequest, task: BatchRun, output: RunOutput, report: RunReport) -> Batch:
    """Detect, and write everything."""
    with _open_journal(request, task) as journal, _open_workspace(output) as folder:
        finished = task.finished(journal)
        report.resumed = len(finished)
        if request.resume:
            console.note(NAME, f"{len(finished):,} of {len(task.paths):,} videos were finished before")
        warnings = FeatureWarnings(len(task.paths))
        report.warnings = warnings.by_path
        for outcome in _detect_with_progress(task, journal, finished, warnings, output, folder):
            report.outcomes.append(outcome)
        outcomes = tuple(report.outcomes)
        _note_damage(outcomes)
        batch = Batch(paths=task.paths, outcomes=outcomes, fail_fast=task.fail_fast, warnings=warnings.by_path)
        output.write(outcomes)
        if batch.recomputed:
            found = f"{batch.recomputed:,} of {len(batch.found):,} videos were computed exactly, at least in part"
            why = f"{task.localizer.backend}, an approximation, would be too far off there"
            console.note(NAME, f"{found}: {why}")
        report.write(batch)
        if journal is not None and not batch.stopped:
            journal.remove()
    return batch


def _note_damage(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.detections is not None and outcome.detections.damage is not None:
            damage = outcome.detections.damage
            console.note(NAME, f"warning: {outcome.path}: {damage}; copy it again if there is a better copy")


def _detect_with_progress(
    task: BatchRun,
    journal: Journal | None,
    finished: Mapping[Path, VideoDetections],
    warnings: FeatureWarnings,
    output: RunOutput,
    folder: Path | None,
) -> Iterator[Outcome]:
    """Detect, and show on a terminal how many videos are done, or how much of a single long one."""
    several = len(task.paths) > 1
    outcomes = task.detect(
        journal,
        finished,
        watch=None if several else lambda blocks, total: console.progress(blocks, label="detecting", total=total),
        warn=warnings.add,
    )
    for outcome in console.progress(outcomes, label="detecting", total=len(task.paths)) if several else outcomes:
        yield outcome if folder is None else output.make_early(outcome, folder)
        if output.streams and not output.print_line(outcome):
            return  # nobody reads them any more


def prepare_run(request: RunRequest, paths: Sequence[Path]) -> BatchRun:
    """Read all that a run needs, except the features.

    Args:
        request: what is asked for.
        paths: the files that it means.

    Raises:
        StaleError: something cannot be used.
    """
    if request.form.needs_seconds and not request.says_times and not any(map(says_duration, paths)):
        raise click.UsageError(
            f"--format {request.form.name} needs seconds; give --durations FILE, or --fps with --stride"
        )
    videos = any(map(is_video, paths))
    if videos:
        from stale_runtime.video.video_reader import require_video_reader  # only videos need it

        require_video_reader()
    prompts = request.class_names()
    timeline = request.timeline()
    external = request.external_classifier
    labels = read_video_labels(external) if external is not None else None
    prepared = prepare_localizer(request, prompts, videos=videos)
    return BatchRun(
        localizer=prepared.localizer,
        prompts=prepared.prompts,
        paths=tuple(paths),
        timeline=timeline,
        labels=labels,
        external_mode=request.external_mode or "surer",
        split_names=prompts.split_names,
        top=request.top,
        fail_fast=request.fail_fast,
        strict=request.strict,
        evidence=request.form.shows_evidence,
    )


def _find_bundle(request: RunRequest) -> Path | None:
    """Where the bundle is; None if there is none, which opening it will report."""
    try:
        return find_bundle(request.bundle.path)
    except BundleError:
        return None


@contextmanager
def _open_journal(request: RunRequest, task: BatchRun) -> Iterator[Journal | None]:
    """The journal of finished videos; None for a single video, or if the output is stdout."""
    videos, path = len(task.paths), request.journal
    if path is None or (videos == 1 and not request.resume):
        yield None
        return
    path.parent.mkdir(exist_ok=True)  # of a folder with a file of each video
    shard = {} if request.shard is None else {"shard": str(request.shard)}
    with Journal(path, {**task.journal_settings(), **shard}, resume=request.resume) as journal:
        if journal.discarded:
            known = f"{journal.discarded:,} videos that an interrupted run had finished"
            console.note(NAME, f"{known} are processed again; --resume would have kept them")
        try:
            yield journal
        except KeyboardInterrupt as problem:
            done = f"{len(journal):,} of {videos:,} videos are done"
            problem.args = (f"{done}; repeat the command with --resume to continue",)
            raise


@contextmanager
def _open_workspace(output: RunOutput) -> Iterator[Path | None]:
    """A temporary folder for files that are made early, beside where they will be; None if there are none."""
    path = output.request.output
    if path is None or not output.makes_early:
        yield None
        return
    with ExitStack() as stack:
        try:
            path.mkdir(exist_ok=True)
            folder = stack.enter_context(workspace(path))
        except OSError as problem:
            raise click.UsageError(f"-o {path}: {why_unwritten(problem)}") from problem
        yield folder


def _conclude(batch: Batch, *, is_shard: bool) -> int:
    """Report what went wrong, and return the exit code.

    The file of a shard is complete even if all of its videos failed, so it counts as a part of a run that did not.
    """
    problems, videos = batch.problems, len(batch.paths)
    if problems and ((videos == 1 and not is_shard) or batch.fail_fast):
        if videos > 1:
            console.note(NAME, f"stopped at the first problem: {len(batch.found):,} of {videos:,} videos are done")
        raise problems[0]
    for problem in problems:
        console.note(NAME, f"error: {problem}")
    if problems:
        failed = f"{len(problems)} of {videos} videos failed, the others are done"
        console.note(NAME, failed if batch.found else f"all {videos} videos failed")
    return SOME_FAILED if problems and is_shard else batch.exit_code
