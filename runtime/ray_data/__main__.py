"""``python -m stale_runtime.ray_data``: finds actions in very many videos, with Ray Data."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import click

from stale_runtime.bundle.bundle import Bundle, find_bundle
from stale_runtime.bundle.vision_spec import Precision
from stale_runtime.decoding.standard_decoder import CLASSES
from stale_runtime.errors import StaleError
from stale_runtime.exit_codes import BAD_BUNDLE, DONE, INCOMPLETE, MISSING_PACKAGE, SOME_FAILED, describe_exit_codes
from stale_runtime.formats.result_rows import FAILED
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.inference.settings import Settings
from stale_runtime.inputs.prompts import MOST_PROMPTS, read_prompts
from stale_runtime.inputs.timeline import LONGEST_S, Timeline
from stale_runtime.inputs.videos import is_video, read_durations
from stale_runtime.ray_data.dataset_stages import require_ray
from stale_runtime.ray_data.detection_plan import DetectionPlan
from stale_runtime.ray_data.listing_run import ListingRun, Reported
from stale_runtime.ray_data.ray_session import connected_to_ray
from stale_runtime.ray_data.video_listing import read_listing
from stale_runtime.system.files import MEGABYTE
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, FrameRate, Length, Number, Sha256, WindowSize

NAME = "python -m stale_runtime.ray_data"
_MOST_NAMED = 20
"""Failed videos that are named on stderr; all are in the results."""
_SECONDS = Number(1e-6, LONGEST_S)


@click.command(epilog=describe_exit_codes(BAD_BUNDLE, SOME_FAILED, MISSING_PACKAGE))
@click.argument("listing", type=PATH)
@click.option("--prompts", type=PATH, required=True, metavar="FILE", help="Class names to look for, one name per line.")
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    metavar="FOLDER",
    help="Write the results into this folder, which is made if it is missing, as Parquet files; stale-merge makes one "
    "file of them. On a cluster, all machines must have it.",
)
@click.option(
    "--bundle",
    type=PATH,
    metavar="FOLDER",
    help="The exported model. On a cluster, all machines must have it under this name.  [default: $STALE_BUNDLE, then "
    "./stale_bundle]",
)
@click.option(
    "--expect-sha256", type=Sha256(), help="Refuse every bundle but this: the hash that stale-export printed."
)
@click.option("--verify", type=PATH, metavar="KEY", help="Refuse every bundle that is not signed with this public key.")
@click.option(
    "--resume", is_flag=True, help="Continue an interrupted run with the same -o; failed videos are repeated."
)
@click.option(
    "--actors",
    type=click.IntRange(1),
    metavar="N",
    help="Processes that work at once, each on one CPU.  [default, and most: one for each CPU that Ray has, or as many "
    "as its GPUs are enough for]",
)
@click.option(
    "--gpus-per-actor",
    type=Number(0.01, 16),
    metavar="X",
    help="Compute the features of videos with so much of a GPU for each process, such as 0.5; needs onnxruntime-gpu.  "
    "[default: CPUs only]",
)
@click.option(
    "--object-store",
    type=click.IntRange(80),
    default=256,
    show_default=True,
    metavar="MB",
    help="Memory for what processes hand on, if Ray is started here.",
)
@click.option("--backend", type=click.Choice(list(LOCALIZER_BACKENDS)), help="As for stale-run.")
@click.option("--vision-precision", type=click.Choice(get_args(Precision)), help="As for stale-run.")
@click.option("--length", type=Length(), help="As for stale-run.")
@click.option("--window", type=WindowSize(), default="auto", show_default=True, help="As for stale-run.")
@click.option("--max-detections", type=click.IntRange(1), metavar="N", help="As for stale-run.")
@click.option(
    "--classes-per-video",
    type=click.IntRange(1, MOST_PROMPTS),
    default=CLASSES,
    show_default=True,
    metavar="N",
    help="As for stale-run.",
)
@click.option("--timeout", type=_SECONDS, metavar="SECONDS", help="As for stale-run.  [default: never]")
@click.option("--durations", type=PATH, metavar="FILE", help="How long the video of each feature file lasts.")
@click.option("--fps", type=FrameRate(1e-6, LONGEST_S), metavar="N", help="Frames a second; with --stride.")
@click.option("--stride", type=_SECONDS, metavar="N", help="Frames from one snippet to the next; with --fps.")
@click.option("--split-names", is_flag=True, help="As for stale-run.")
@click.option("--strict", is_flag=True, help="Refuse features that are not like those of the training.")
def detect_listing(listing: Path, **options: Any) -> int:
    """Find actions in very many videos, on all CPUs of this machine or of a Ray cluster.

    LISTING is a Parquet file with a column path, and perhaps a column video with ids; or text with one path per line;
    or a folder. The files are those that stale-run takes: features and videos. The detections are the same as
    stale-run's, too; a file that cannot be used becomes a row with the reason.

    Without $RAY_ADDRESS, Ray is started here for this run. In a job of a cluster, that cluster is used.

    \b
      pip install '.[ray]'
      python -m stale_runtime.ray_data videos.parquet --prompts classes.txt --bundle stale_bundle -o out/
      python -m stale_runtime.ray_data videos.parquet --prompts classes.txt --bundle stale_bundle -o out/ --resume
      stale-merge out/ --videos videos.parquet -o detections.json
      ray job submit -- python -m stale_runtime.ray_data /shared/videos.parquet --prompts /shared/classes.txt \\
        --bundle /shared/stale_bundle -o /shared/out --resume
    """  # noqa: D301 -- click reads the backslash
    require_ray()
    run = prepare_listing_run(listing, **options)
    console.note(NAME, f"{run.finished:,} videos were finished before, {run.left:,} are left")
    if not run.left:
        return DONE
    with connected_to_ray(object_store_bytes=options["object_store"] * MEGABYTE) as resources:
        try:
            num_gpus = options["gpus_per_actor"] or 0
            most = resources.most_actors(num_gpus)
            done = run.detect(actors=min(options["actors"] or most, most), num_gpus=num_gpus)
            _say(console.progress(done, label="detecting", total=run.left))
        except KeyboardInterrupt as problem:
            count = f"{run.counts.total():,} of {run.left:,} videos are done"
            problem.args = (f"{count}; repeat the command with --resume to continue",)
            raise
    return _conclude(run)


def prepare_listing_run(
    listing: Path,
    *,
    output: Path,
    prompts: Path,
    bundle: Path | None,
    expect_sha256: str | None,
    verify: Path | None,
    resume: bool,
    gpus_per_actor: float | None,
    backend: str | None,
    vision_precision: Precision | None,
    length: int | Literal["auto"] | None,
    window: int | Literal["auto", "off"],
    max_detections: int | None,
    classes_per_video: int,
    timeout: float | None,
    durations: Path | None,
    fps: float | None,
    stride: float | None,
    split_names: bool,
    strict: bool,
    **_: Any,
) -> ListingRun:
    """Read all that a run needs, before Ray starts.

    Raises:
        StaleError: something cannot be used.
        click.UsageError: options make no sense together.
    """
    if (fps is None) != (stride is None) or (fps is not None and durations is not None):
        raise click.UsageError("--fps and --stride belong together, and --durations is instead of them")
    videos = read_listing(listing)
    settings = Settings(
        backend=backend,
        length=length,
        window=window,
        most_detections=max_detections,
        classes=classes_per_video,
        vision_precision=vision_precision,
        timeout_s=timeout,
    )
    try:
        plan = DetectionPlan.make(
            Bundle(find_bundle(bundle), expect_sha256=expect_sha256, verify_key=verify),
            settings,
            read_prompts(prompts, split_names=split_names),
            videos=any(is_video(Path(video.path)) for video in videos),
            timeline=Timeline(
                snippet_s=None if fps is None or stride is None else stride / fps,
                durations_s=None if durations is None else read_durations(durations),
            ),
            strict=strict,
            vision_processor="cpu" if gpus_per_actor is None else "cuda",
        )
    except ValueError as problem:
        raise click.UsageError(str(problem)) from problem
    return ListingRun.prepare(plan, videos, output, resume=resume)


def main() -> None:
    """Run the command."""
    console.run_command(detect_listing, NAME)


def _say(reported: Iterable[Reported]) -> None:
    """Print what a user should know of the first videos that failed, or have a warning."""
    failed = warned = 0
    for video in reported:
        failed += video.status == FAILED
        warned += video.warning is not None
        if video.status == FAILED and failed <= _MOST_NAMED:
            console.note(NAME, f"error: {video.message}")
        elif video.warning is not None and warned <= _MOST_NAMED:
            console.note(NAME, f"warning: {video.warning}")


def _conclude(run: ListingRun) -> int:
    """Say what went wrong, and return the exit code."""
    videos = run.left
    if run.missing:
        raise MissingResultsError(
            f"{run.missing:,} of {videos:,} videos have no result, because the processes that had them ended, as it "
            "happens if memory runs out; repeat the command with --resume, and fewer --actors if it happens again"
        )
    if run.failed:
        console.note(NAME, f"{run.failed:,} of {videos:,} videos failed; the column message of the results says why")
    return SOME_FAILED if run.failed else DONE


class MissingResultsError(StaleError):
    """Some videos have no result."""

    exit_code = INCOMPLETE


if __name__ == "__main__":
    main()
