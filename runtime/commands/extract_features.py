"""``stale-features``: computes the snippet features of videos."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click

from stale_runtime import __version__
from stale_runtime.batch.extraction import Extracted, Extraction
from stale_runtime.batch.found_files import find_files, find_shard
from stale_runtime.bundle.vision_spec import Precision
from stale_runtime.commands.features_request import EncoderRequest, FeaturesRequest
from stale_runtime.commands.run_request import BundleRequest
from stale_runtime.exit_codes import BAD_BUNDLE, DONE, MISSING_PACKAGE, SOME_FAILED, describe_exit_codes
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.long_calls import time_limit
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, Number, Sha256, ShardNumber
from stale_runtime.video.recipe_comparison import Trial, compare_recipes, most_trials
from stale_runtime.video.video_features import ImageEncoder, Rows, require_usable
from stale_runtime.video.video_reader import require_video_reader

NAME = "stale-features"
MOST_WORKERS = 256
_CLEAR = 0.95
"""Mean cosine above which a recipe fits. Rounding, another decoder of videos and int8 leave more than that."""
_TIE = 0.001
"""Mean cosines that are closer than that tell recipes apart no better than chance."""
_FRAME = {"crop": "centre", "squash": "whole"}


@click.command(epilog=describe_exit_codes(BAD_BUNDLE, SOME_FAILED, MISSING_PACKAGE))
@click.argument("videos", nargs=-1, type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FOLDER",
    help="Write ID.npy and ID.recipe.json for each video into this folder, which is made if it is missing.",
)
@click.option(
    "--bundle",
    type=PATH,
    metavar="FOLDER",
    help="Take the vision tower and recipe of this bundle, as stale-export --vision wrote it.  [default: "
    "$STALE_BUNDLE, then ./stale_bundle]",
)
@click.option("--vision", type=PATH, metavar="FOLDER", help="Take a vision tower as ONNX, with its recipe.json.")
@click.option(
    "--expect-sha256", type=Sha256(), help="Refuse every bundle but this: the hash that stale-export printed."
)
@click.option("--verify", type=PATH, metavar="KEY", help="Refuse every bundle that is not signed with this public key.")
@click.option(
    "--vision-precision",
    type=click.Choice(get_args(Precision)),
    help="Which of the bundle's vision towers to use.  [default: int8 if there is one]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MOST_WORKERS),
    metavar="N",
    default=1,
    show_default=True,
    help="Processes that work at once, each on a video of its own.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="CPU threads for the tower of each process.",
)
@click.option(
    "--timeout",
    type=Number(1e-6, LONGEST_S),
    metavar="SECONDS",
    help="Give up on a video after so long, and go on with the next; also on opening the tower.  [default: never]",
)
@click.option(
    "--shard",
    type=ShardNumber(),
    help="Process only part I of N of the videos, I from 0 to N - 1, for a task of many that write into one folder.",
)
@click.option("--overwrite", is_flag=True, help="Replace features of another video, of another recipe, or not ours.")
@click.option(
    "--compare",
    type=PATH,
    metavar="FILE",
    help="Write nothing: compute the features of the one video by several recipes, and print how well these published "
    "features of it fit each.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print on stderr what is used, and a line for each video.")
@click.version_option(__version__, prog_name=NAME)
def stale_features(
    bundle: Path | None,
    vision: Path | None,
    expect_sha256: str | None,
    verify: Path | None,
    vision_precision: Precision | None,
    threads: int,
    **options: Any,
) -> int:
    """Compute the snippet features of videos, as the network was trained on.

    VIDEOS are video files and folders of them. The features are what stale-run VIDEO computes itself; stale-run,
    stale-train and stale-export take the folder. Beside each ID.npy (snippets, 512) of float16, ID.recipe.json says by
    which recipe it was made, from which video, and how long that lasts.

    Videos whose features are there already are skipped, so that an interrupted run continues when it is repeated.

    --compare tells how published features were made: rgb or bgr, 5 or 10 rows a second, the centre or the whole frame.

    \b
      stale-features holiday.mp4 -o feats/
      stale-features videos/ -o feats/ --workers 4
      stale-features --compare published/v_abc.npy v_abc.mp4
    """  # noqa: D301 -- click reads the backslash
    chosen = BundleRequest(path=bundle, expect_sha256=expect_sha256, verify_key=verify)
    encoder = EncoderRequest(
        bundle=chosen, vision=vision, precision=vision_precision, threads=console.limit_threads(NAME, threads)
    )
    request = FeaturesRequest(encoder=encoder, **options)
    require_video_reader()
    return extract(request, request.output) if request.output is not None else ask_published(request)


def main() -> None:
    """Run ``stale-features``."""
    console.run_command(stale_features, NAME)


def extract(request: FeaturesRequest, folder: Path) -> int:
    """Compute and write features, and report on stderr what went wrong.

    Returns:
        The exit code.

    Raises:
        StaleError: the tower cannot be used, or a single video failed.
    """
    paths = _find(request)
    if not paths:
        console.note(NAME, f"shard {request.shard} has no videos")
        return DONE
    encoder = _open(request)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as problem:
        raise click.UsageError(f"-o {folder}: {why_unwritten(problem)}") from problem
    if request.verbose:
        console.note(NAME, f"{_describe_recipe(encoder.recipe)}; features of width {encoder.channels}")
    extraction = Extraction(
        open_encoder=request.encoder, folder=folder, overwrite=request.overwrite, timeout_s=request.timeout
    )
    meter = _Meter(encoder.recipe.snippet_s or 0.0)
    outcomes: list[Extracted] = []
    try:
        for outcome in _with_progress(extraction, paths, encoder, request.workers, meter):
            outcomes.append(outcome)
            _say(outcome, verbose=request.verbose)
    except KeyboardInterrupt as problem:
        problem.args = (f"{len(outcomes):,} of {len(paths):,} videos are done; repeat the command to continue",)
        raise
    return _conclude(outcomes, meter)


def _find(request: FeaturesRequest) -> list[Path]:
    """The videos of the run, or of its shard, which may have none."""
    say = partial(console.note, NAME)
    if request.shard is None:
        return find_files(request.videos, features=False, say=say)
    return find_shard(request.videos, request.shard, features=False, say=say)[0]


def ask_published(request: FeaturesRequest) -> int:
    """Compare published features with those by several recipes, and print a table.

    Returns:
        The exit code, 0.

    Raises:
        StaleError: the tower, the video or the features cannot be used.
    """
    assert request.compare is not None
    encoder = _open(request)
    published = read_features(request.compare, encoder.channels)
    trials = compare_recipes(request.videos[0], encoder, published)
    with time_limit(request.timeout, str(request.videos[0])):
        found = list(console.progress(trials, label="comparing", total=most_trials()))
    console.echo(recipe_table(found))
    console.echo(_describe_best(found, encoder.recipe))
    return 0


def recipe_table(trials: Sequence[Trial]) -> str:
    """A table of all trials, best first."""
    from tabulate import tabulate  # only tables need it

    rows = [
        (
            trial.recipe.channel_order,
            _FRAME[trial.recipe.resize or ""],
            f"{1 / (trial.recipe.snippet_s or math.inf):.3g}{' (spread)' if trial.spread else ''}",
            trial.rows,
            f"{trial.mean:.4f}",
            f"{trial.median:.4f}",
        )
        for trial in sorted(trials, key=_badness)
    ]
    headers = ("channels", "frame", "rows a second", "rows compared", "mean cosine", "median cosine")
    return str(tabulate(rows, headers, disable_numparse=True, colalign=("left", "left", *["right"] * 4)))


class _Meter:
    """Counts how many seconds of video have been computed, and how long that took."""

    def __init__(self, snippet_s: float) -> None:
        self._snippet_s, self._started = snippet_s, time.perf_counter()
        self.seconds = 0.0

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._started

    def count_rows(self, blocks: Iterable[Rows]) -> Iterator[Rows]:
        for block in blocks:
            self.seconds += len(block) * self._snippet_s
            yield block

    def count_videos(self, outcomes: Iterable[Extracted]) -> Iterator[Extracted]:
        for outcome in outcomes:
            self.seconds += 0.0 if outcome.kept else outcome.duration_s
            yield outcome

    def __str__(self) -> str:
        return f"{self.seconds / self.elapsed_s:.1f} times real time" if self.seconds else ""


def _open(request: FeaturesRequest) -> ImageEncoder:
    with time_limit(request.timeout, "opening the vision tower"):
        encoder = request.encoder()
    require_usable(encoder.recipe)
    return encoder


def _with_progress(
    extraction: Extraction, paths: Sequence[Path], encoder: ImageEncoder, workers: int, meter: _Meter
) -> Iterator[Extracted]:
    """Compute, and show on a terminal how many videos are done, or how much of a single one."""
    progress = partial(console.progress, label="computing", describe=lambda _: str(meter))
    if len(paths) == 1:
        outcome = extraction.extract(
            paths[0], encoder, watch=lambda blocks, total: progress(meter.count_rows(blocks), total=total)
        )
        meter.seconds = 0.0
        yield from meter.count_videos([outcome])
        return
    outcomes = extraction.extract_all(paths, encoder, workers=min(workers, len(paths)))
    yield from progress(meter.count_videos(outcomes), total=len(paths))


def _say(outcome: Extracted, *, verbose: bool) -> None:
    """Print what a user should know about a video that did not fail."""
    if outcome.damage is not None:
        console.note(NAME, f"warning: {outcome.path}: {outcome.damage}; copy it again if there is a better copy")
    if not verbose or outcome.error is not None:
        return
    if outcome.kept:
        console.note(NAME, f"{outcome.path}: was done before")
    else:
        taken = f"{outcome.duration_s:.1f} s of video in {outcome.elapsed_s:.1f} s"
        console.note(NAME, f"{outcome.path}: {taken}, {outcome.duration_s / outcome.elapsed_s:.1f} times real time")


def _conclude(outcomes: Sequence[Extracted], meter: _Meter) -> int:
    """Report what was done and what went wrong, and return the exit code."""
    problems = [outcome.error for outcome in outcomes if outcome.error is not None]
    if problems and len(outcomes) == 1:
        raise problems[0]
    for problem in problems:
        console.note(NAME, f"error: {problem}")
    kept = sum(outcome.kept for outcome in outcomes)
    done = len(outcomes) - len(problems) - kept
    videos = "video" if done == 1 else "videos"
    parts = [f"{done:,} {videos}, {meter.seconds:,.1f} s, in {meter.elapsed_s:,.1f} s: {meter}"] if done else []
    parts += [f"{kept:,} {'was' if kept == 1 else 'were'} done before"] if kept else []
    parts += [f"{len(problems):,} of {len(outcomes):,} failed"] if problems else []
    console.note(NAME, "; ".join(parts))
    if not problems:
        return 0
    return SOME_FAILED if len(problems) < len(outcomes) else problems[0].exit_code


def _describe_recipe(recipe: FeatureRecipe) -> str:
    return ", ".join(f"{name} {value}" for name, value in recipe.to_json().items())


def _badness(trial: Trial) -> float:
    return math.inf if math.isnan(trial.mean) else -trial.mean


def _describe_best(trials: Sequence[Trial], own: FeatureRecipe) -> str:
    best = min(trials, key=_badness)
    if not best.mean >= _CLEAR:
        return (
            "None of them fits: the features are of another video, from another tower than "
            f"{own.tower or 'this one'}, or the mean of several frames."
        )
    recipe = best.recipe
    found = f"channel_order {recipe.channel_order}, resize {recipe.resize}, snippet_s {recipe.snippet_s:.6g}"
    agrees = all(getattr(own, name) == getattr(recipe, name) for name in ("channel_order", "resize", "snippet_s"))
    text = f"Best: {found}{', as the recipe in use says' if agrees else '; the recipe in use says otherwise'}."
    close = sum(trial.mean > best.mean - _TIE for trial in trials) - 1
    return f"{text} {close} more fit as well: compare a longer video, with motion and colours." if close else text


if __name__ == "__main__":
    main()
