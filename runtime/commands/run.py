"""``stale-run``: features and prompts in, detections out."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from stale_runtime import __version__
from stale_runtime.batch.batch import Batch, detect_batch, find_files, finished_videos, journal_settings, run_settings
from stale_runtime.batch.journal import Journal, journal_path
from stale_runtime.batch.run_report import run_report_json
from stale_runtime.bundle.bundle import Bundle, find_bundle
from stale_runtime.commands.formats import detections_csv, detections_srt, detections_table
from stale_runtime.decoding.decoders import DECODERS
from stale_runtime.detections import VideoDetections
from stale_runtime.errors import BundleError
from stale_runtime.evaluation.results import FRACTION, results_json, unit_of
from stale_runtime.evaluation.video_labels import VideoLabel, override_labels, read_video_labels
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.inference.localizer import EncodedPrompts, Localizer, Settings
from stale_runtime.inputs.prompts import read_prompts
from stale_runtime.inputs.timeline import LONGEST_S, Timeline
from stale_runtime.inputs.videos import read_durations
from stale_runtime.system.text import one_line
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, Length, Number, Sha256
from stale_runtime.terminal.output import check_output, destination, write_output

NAME = "stale-run"
TABLE_ROWS = 10
POSITIVE = Number(1e-6, LONGEST_S)


@click.command(epilog="Exit codes: 0 done, 2 usage, 3 bad input, 4 bad bundle, 5 some inputs failed, 1 a bug of ours.")
@click.argument("features", nargs=-1, type=PATH)
@click.option("--prompts", "prompts_file", type=PATH, help="Class names, UTF-8, one a line.")
@click.option("--bundle", type=PATH, help="Default: $STALE_BUNDLE, then ./stale_bundle.")
@click.option("--expect-sha256", type=Sha256(), help="Take no bundle but this: the hash that stale-export printed.")
@click.option(
    "--verify",
    type=PATH,
    metavar="KEY",
    help="Take no bundle but one signed with this public key.",
)
@click.option("--backend", type=click.Choice(list(LOCALIZER_BACKENDS)), help="Default: int8 if its mAP is proved.")
@click.option(
    "--length",
    type=Length(),
    help="Snippets that videos are resampled to; default: as trained. auto: twice that where videos have still more.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads to use.")
@click.option("--decoder", type=click.Choice(list(DECODERS)), help="upstream: the published post-processing.")
@click.option("--duration", type=POSITIVE, help="Seconds that the one video lasts.")
@click.option("--fps", type=POSITIVE, help="Frames a second; with --stride.")
@click.option("--stride", type=POSITIVE, help="Frames from a snippet to the next.")
@click.option("--durations", type=PATH, help="Seconds by video: ActivityNet JSON, or CSV.")
@click.option(
    "--external-classifier",
    type=PATH,
    help="Video-level labels to prefer where they are surer, like stale_best_score.json. Not zero-shot.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv", "srt"]), default="table", show_default=True
)
@click.option("-o", "--output", type=PATH, help="Write to this file instead of stdout.")
@click.option("--report", type=PATH, help="Write what became of each video to this JSON file.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first video that fails, with its exit code.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run with the same -o was.")
@click.option("--top", type=click.IntRange(1), help=f"Detections a video; default: all, {TABLE_ROWS} in a table.")
@click.option(
    "--cache",
    "cache_folder",
    type=PATH,
    help="Default: $STALE_CACHE, then ~/.cache/stale-edge.",
)
@click.option("--no-cache", is_flag=True, help="Neither read nor write the prompt cache.")
@click.option("--self-test", is_flag=True, help="Check all of the bundle and replay its recorded outputs here.")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what is used and how long it takes.")
@click.version_option(__version__, prog_name=NAME)
def stale_run(features: tuple[Path, ...], prompts_file: Path | None, self_test: bool, **options: Any) -> int:
    """Find actions in videos.

    FEATURES are .npy files of CLIP snippet features, (snippets, 512), or folders of them; a file's name is the
    video's id. Without a duration, times are fractions of the video.

    \b
      stale-run video_feats.npy --prompts classes.txt
      stale-run video_feats.npy --prompts classes.txt --fps 25 --stride 16 --format srt -o actions.srt
      stale-run features/ --prompts classes.txt --durations activity_net.json --format json -o detections.json
    """  # noqa: D301 -- click reads the backslash
    if self_test:
        return _self_test(_bundle(options))
    if not features:
        raise click.UsageError("no FEATURES; give a .npy file or a folder of them")
    if prompts_file is None:
        raise click.UsageError("no --prompts; give a text file with a class name a line")
    _check_usage(features, options)
    started = time.perf_counter()
    paths = find_files(features)
    prompts = read_prompts(prompts_file)
    timeline = _timeline(options)
    external = options["external_classifier"]
    labels = read_video_labels(external) if external is not None else None
    localizer = Localizer(_bundle(options), _settings(options))
    encoded = localizer.encode_prompts(prompts)
    localizer.require_memory(encoded)
    ready = time.perf_counter()
    with _journal(localizer, encoded, timeline, len(paths), options) as journal:
        finished = finished_videos(paths, journal, timeline) if journal is not None else {}
        if options["resume"]:
            console.note(NAME, f"{len(finished):,} of {len(paths):,} videos were finished before")
        outcomes = detect_batch(
            localizer,
            paths,
            encoded,
            timeline=timeline,
            journal=journal,
            finished=finished,
            finish=partial(_finish, labels=labels, top=options["top"]),
            fail_fast=options["fail_fast"],
        )
        outcomes = console.progress(outcomes, label="Detecting", total=len(paths))
        batch = Batch(paths=tuple(paths), outcomes=tuple(outcomes), fail_fast=options["fail_fast"])
        if batch.found:
            write_output(_render(batch.found, localizer, options), options["output"])
        if options["report"] is not None:
            report = run_report_json(batch, resumed=len(finished), run=run_settings(localizer, encoded))
            write_output(report, options["report"], "--report")
        if journal is not None and not batch.stopped:
            journal.remove()
    if options["verbose"]:
        times = f"ready in {ready - started:.3f} s, {len(paths)} videos in {time.perf_counter() - ready:.3f} s"
        console.note(NAME, f"{_description(localizer)}; {len(encoded.names)} prompts; {times}")
    return _conclude(batch)


def main() -> None:
    """Run ``stale-run``."""
    console.run(stale_run, NAME)


def _check_usage(features: Sequence[Path], options: Mapping[str, Any]) -> None:
    if (options["fps"] is None) != (options["stride"] is None):
        raise click.UsageError("--fps and --stride belong together; give both or neither")
    if sum(options[name] is not None for name in ("duration", "fps", "durations")) > 1:
        raise click.UsageError("--duration, --fps with --stride, and --durations exclude each other; give one")
    single = len(features) == 1 and not os.path.isdir(features[0])
    if options["duration"] is not None and not single:
        raise click.UsageError("--duration is for a single video; give --durations FILE")
    if options["form"] == "srt":
        if not single:
            raise click.UsageError("--format srt is for a single video; run it for each")
        if all(options[name] is None for name in ("duration", "fps", "durations")):
            raise click.UsageError("--format srt needs seconds; give --duration, or --fps with --stride")
    check_output(options["output"])
    check_output(options["report"], "--report")
    if options["output"] is None and options["resume"]:
        raise click.UsageError("--resume without -o; what a run has finished is kept beside its output")
    if options["output"] is not None and options["report"] is not None:
        output, report = destination(options["output"]), destination(options["report"])
        if report in (output, journal_path(output)):
            raise click.UsageError("-o and --report are the same file, or its journal; give two")


def _timeline(options: Mapping[str, Any]) -> Timeline:
    durations = options["durations"]
    return Timeline(
        duration_s=options["duration"],
        snippet_s=options["stride"] / options["fps"] if options["fps"] is not None else None,
        durations_s=read_durations(durations) if durations is not None else None,
    )


def _bundle(options: Mapping[str, Any]) -> Bundle:
    path = find_bundle(options["bundle"])
    return Bundle(path, expect_sha256=options["expect_sha256"], verify_key=options["verify"])


def _settings(options: Mapping[str, Any]) -> Settings:
    return Settings(
        backend=options["backend"],
        length=options["length"],
        threads=console.usable_threads(NAME, options["threads"]),
        decoder=options["decoder"],
        cache_folder=options["cache_folder"],
        cache=not options["no_cache"],
    )


@contextmanager
def _journal(
    localizer: Localizer, prompts: EncodedPrompts, timeline: Timeline, videos: int, options: Mapping[str, Any]
) -> Iterator[Journal | None]:
    """What keeps finished videos until the output is written; None where that is not worth it."""
    if options["output"] is None or (videos == 1 and not options["resume"]):
        yield None
        return
    settings = journal_settings(localizer, prompts, timeline)
    with Journal(journal_path(destination(options["output"])), settings, resume=options["resume"]) as journal:
        if journal.discarded:
            known = f"{journal.discarded:,} videos that an interrupted run had finished"
            console.note(NAME, f"{known} are done anew; --resume would have kept them")
        try:
            yield journal
        except KeyboardInterrupt:
            done = f"{len(journal):,} of {videos:,} videos are done"
            raise KeyboardInterrupt(f"{done}, the same command with --resume goes on") from None


def _finish(video: VideoDetections, *, labels: Mapping[str, VideoLabel] | None, top: int | None) -> VideoDetections:
    rows = video.detections[:top]
    if labels is not None:
        rows = override_labels(rows, video.video, labels)
    return replace(video, detections=rows)


def _render(found: Sequence[VideoDetections], localizer: Localizer, options: Mapping[str, Any]) -> str:
    if options["form"] == "json":
        external = options["external_classifier"]
        details = f"labels overridden by {external.name}: not a zero-shot result" if external is not None else None
        run = {"decoder": localizer.decoder, "backend": localizer.backend, "length": localizer.length}
        run["bundle_sha256"] = localizer.bundle.manifest_sha256
        return results_json(found, version=f"stale-edge {__version__}", external=details, run=run)
    if unit_of(found) == FRACTION and options["form"] == "csv":
        console.note(NAME, "times are fractions of the video; give --durations FILE for seconds")
    if options["external_classifier"] is not None:
        console.note(NAME, "labels are overridden by an external classifier: this is no zero-shot result")
    if options["form"] == "csv":
        return detections_csv(found)
    if options["form"] == "srt":
        return detections_srt(found[0])
    return detections_table(found, top=options["top"] or TABLE_ROWS)


def _description(localizer: Localizer) -> str:
    settings = f"{localizer.backend}, T={localizer.length}, decoder {localizer.decoder}"
    bundle = f"bundle {localizer.bundle.path} (sha256 {localizer.bundle.manifest_sha256})"
    return f"{bundle}, {settings}, {localizer.threads} of the CPU's threads"


def _conclude(batch: Batch) -> int:
    """Say what went wrong, and give the exit code."""
    problems, videos = batch.problems, len(batch.paths)
    if problems and (videos == 1 or batch.fail_fast):
        if videos > 1:
            console.note(NAME, f"stopped at the first problem: {len(batch.found):,} of {videos:,} videos are done")
        raise problems[0]
    for problem in problems:
        console.note(NAME, f"error: {problem}")
    if problems:
        failed = f"{len(problems)} of {videos} videos failed, the others are done"
        console.note(NAME, failed if batch.found else f"all {videos} videos failed")
    return batch.exit_code


def _self_test(bundle: Bundle) -> int:
    from stale_runtime.inference.bundle_check import self_test

    failed = 0
    for check in self_test(bundle):
        failed += not check.passed
        measured = (
            "" if check.deviation is None else f"  {check.measure} {check.deviation:.1e}, limit {check.limit:.0e}"
        )
        console.echo(f"{'ok' if check.passed else 'FAILED':6}  {one_line(check.what)}{measured}")
    if failed:
        raise BundleError(f"{bundle.path}: {failed} checks failed on this machine; report it with this output")
    return 0
