"""``stale-run``: finds actions in videos, given them or their features, and class names."""

from pathlib import Path
from typing import Any, get_args

import click

from stale_runtime import __version__
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.reading_score import DEFAULT_READING_SCORE
from stale_runtime.bundle.vision_spec import Precision
from stale_runtime.commands.output_formats import HIGHEST_SCORE, OUTPUT_FORMATS
from stale_runtime.commands.run_files import run_files
from stale_runtime.commands.run_preparation import NAME
from stale_runtime.commands.run_request import BundleRequest, RunRequest
from stale_runtime.decoding.decoders import DECODERS
from stale_runtime.decoding.standard_decoder import CLASSES, MOST_DETECTIONS
from stale_runtime.errors import BundleError
from stale_runtime.evaluation.video_labels import ExternalMode
from stale_runtime.exit_codes import BAD_BUNDLE, MISSING_PACKAGE, SOME_FAILED, describe_exit_codes
from stale_runtime.formats.detections_table import TABLE_ROWS
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.inference.windows import LARGEST
from stale_runtime.inputs.prompts import MOST_PROMPTS
from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.system.long_calls import time_limit
from stale_runtime.system.text import one_line
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, FrameRate, Length, Number, Sha256, ShardNumber, WindowSize

POSITIVE = Number(1e-6, LONGEST_S)


@click.command(epilog=describe_exit_codes(BAD_BUNDLE, SOME_FAILED, MISSING_PACKAGE))
@click.argument("features", nargs=-1, type=PATH, metavar="[INPUT]...")
@click.option(
    "--prompts",
    type=PATH,
    metavar="FILE",
    help="Class names to look for: UTF-8 text, one name per line; - for standard input.",
)
@click.option(
    "--prompt", multiple=True, metavar="NAME", help="A class name to look for, instead of --prompts; repeatable."
)
@click.option(
    "--split-names",
    is_flag=True,
    help="Prompt for names such as BaseballPitch and long_jump as 'Baseball pitch' and 'long jump'. "
    "Detections keep the name that was given.",
)
@click.option(
    "--bundle",
    type=PATH,
    metavar="FOLDER",
    help="The exported model, as stale-export wrote it.  [default: $STALE_BUNDLE, then ./stale_bundle]",
)
@click.option(
    "--expect-sha256", type=Sha256(), help="Refuse every bundle but this: the hash that stale-export printed."
)
@click.option("--verify", type=PATH, metavar="KEY", help="Refuse every bundle that is not signed with this public key.")
@click.option(
    "--backend",
    type=click.Choice(list(LOCALIZER_BACKENDS)),
    help="What runs the network.  [default: the first of ort-fast and ort-int8 whose mAP the bundle says, else "
    "ort-fp32, else what the bundle has]",
)
@click.option(
    "--vision-precision",
    type=click.Choice(get_args(Precision)),
    help="Which of the bundle's vision towers computes the features of videos.  [default: int8 if there is one]",
)
@click.option(
    "--length",
    type=Length(),
    help="Snippets that each video or window is resampled to; a number looks at whole videos, unless --window is a "
    "number too. auto: the trained length, or twice that for videos with more than twice as many snippets that are "
    "looked at as a whole.  [default: the trained length]",
)
@click.option(
    "--window",
    type=WindowSize(),
    default="auto",
    show_default=True,
    help="Snippets of the largest windows that a video is looked at through; smaller ones go with them. auto: windows "
    f"of up to {LARGEST} for videos with more snippets than twice the trained length, or with several scenes, where a "
    "look at the whole misses short actions. off: always look at the whole. Smaller numbers suit short actions "
    "and make streams faster to answer; larger ones, actions of many minutes.",
)
@click.option(
    "--max-detections",
    type=click.IntRange(1),
    metavar="N",
    help=f"Most detections of a video, the best ones.  [default: {MOST_DETECTIONS}, and more for a video that is "
    "looked at through windows, the longer the more]",
)
@click.option(
    "--classes-per-video",
    type=click.IntRange(1, MOST_PROMPTS),
    metavar="N",
    default=CLASSES,
    show_default=True,
    help="Classes that are considered for a video, or for each window of a long one. More find rarer classes, take "
    "longer, and let through more that is wrong.",
)
@click.option(
    "--width",
    type=click.IntRange(1),
    metavar="C",
    help="For -: accept rows of C little-endian float32 without a header, such as a live extractor writes.",
)
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="CPU threads to use."
)
@click.option(
    "--decoder",
    type=click.Choice(list(DECODERS)),
    help="How outputs become segments. upstream: like the original code, except for ties.  [default: the bundle's own]",
)
@click.option(
    "--timeout",
    type=POSITIVE,
    metavar="SECONDS",
    help="Give up on a video after so long, and go on with the next; also on loading the bundle, on encoding the "
    "prompts, on what a stream has sent at once, and on --self-test.  [default: never]",
)
@click.option("--duration", type=POSITIVE, metavar="SECONDS", help="How long the video of the one feature file lasts.")
@click.option(
    "--fps",
    type=FrameRate(1e-6, LONGEST_S),
    metavar="N",
    help="Frames a second of feature files' videos, such as 25 or 30000/1001; with --stride.",
)
@click.option("--stride", type=POSITIVE, metavar="N", help="Frames from one snippet to the next; with --fps.")
@click.option(
    "--durations",
    type=PATH,
    metavar="FILE",
    help="How long the video of each feature file lasts: ActivityNet's JSON, or CSV with the columns video,seconds.",
)
@click.option(
    "--external-classifier",
    type=PATH,
    metavar="FILE",
    help="Labels of whole videos, like stale_best_score.json, to use instead of the network's. No longer zero-shot.",
)
@click.option(
    "--external-mode",
    type=click.Choice(get_args(ExternalMode)),
    help="Which detections take these labels. surer: those that do not score above the classifier, as in the authors' "
    "code; always: all. (The thesis's code uses no such labels.)  [default: surer]",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(list(OUTPUT_FORMATS)),
    help=f"{'; '.join(f'{form.name}: {form.help}' for form in OUTPUT_FORMATS.values())}.  [default: what FILE of -o "
    "ends with, such as .html; else table, and jsonl for -]",
)
@click.option(
    "--min-score",
    type=Number(0, HIGHEST_SCORE),
    metavar="X",
    help="Leave out detections that score less, or start the slider of html there; 0 keeps all.  [default: for "
    "formats that people read "
    f"({', '.join(form.name for form in OUTPUT_FORMATS.values() if form.for_people)}) the score at which the bundle's "
    f"F1 was best, {DEFAULT_READING_SCORE} if that was not measured; else all are written]",
)
@click.option(
    "--ground-truth",
    type=PATH,
    metavar="FILE",
    help="Annotations to show beside the detections, in the formats that stale-eval reads; for --format "
    f"{', '.join(form.name for form in OUTPUT_FORMATS.values() if form.shows_ground_truth)}.",
)
@click.option("--subset", metavar="NAME", help="With --ground-truth: use the annotations of this subset only.")
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FILE",
    help="Write the detections to this file; a folder for several videos in a format that holds one "
    f"({', '.join(form.name for form in OUTPUT_FORMATS.values() if form.single_video)}). Files of the same names are "
    "replaced.  [default: stdout]",
)
@click.option("--report", type=PATH, metavar="FILE", help="Write to this JSON file which videos failed, and why.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first video that fails, with its exit code.")
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse features that are not like those that the network was trained on, instead of warning of them.",
)
@click.option(
    "--shard",
    type=ShardNumber(),
    help="Process only part I of N of the videos, I from 0 to N - 1, for a task of many; stale-merge joins what they "
    "write with --format jsonl or parquet.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run with the same -o.")
@click.option(
    "--top",
    type=click.IntRange(1),
    metavar="N",
    help=f"Keep only the N best detections of each video.  [default: all, {TABLE_ROWS} in a table]",
)
@click.option(
    "--cache",
    "cache_folder",
    type=PATH,
    metavar="FOLDER",
    help="Where encoded prompts are kept.  [default: $STALE_CACHE, then ~/.cache/stale-edge]",
)
@click.option("--no-cache", is_flag=True, help="Neither read nor write the prompt cache.")
@click.option("--self-test", is_flag=True, help="Only check the whole bundle, and replay its recorded outputs here.")
@click.option("-v", "--verbose", is_flag=True, help="Print on stderr what is used and how long it takes.")
@click.version_option(__version__, prog_name=NAME)
def stale_run(
    self_test: bool,
    bundle: Path | None,
    expect_sha256: str | None,
    verify: Path | None,
    timeout: float | None,
    **options: Any,
) -> int:
    """Find actions in videos.

    INPUTs are videos, .npy or .npz files of CLIP image features, or folders of both; a file's name is the id.
    Videos need pip install '.[video]', and a bundle with the vision tower (stale-export --vision).

    Features are (snippets, 512), made like those that the network was trained on. Without durations, their times are
    fractions of the video, unless stale-features made them, which writes the duration beside them.

    INPUT may be -, for snippets on standard input while they arrive: as a .npy file has them, or with --width 512
    rows of float32. Each detection is printed as a line of JSON, as soon as no later snippet can change it. Times are
    seconds with --fps and --stride, else snippets.

    \b
      stale-run holiday.mp4 --prompts classes.txt
      stale-run video_feats.npy --prompts classes.txt
      stale-run video_feats.npy --prompt 'Long jump' --prompt Archery
      stale-run video_feats.npy --prompts classes.txt --fps 25 --stride 5 --format srt -o actions.srt
      stale-run videos/ --prompts classes.txt --format vtt -o subtitles/
      stale-run videos/ --prompts classes.txt --format jsonl | jq .video
      stale-run features/ --prompts classes.txt --durations activity_net.json --format json -o detections.json
      extract-features camera | stale-run - --width 512 --prompts classes.txt --fps 25 --stride 5
    """  # noqa: D301 -- click reads the backslash
    chosen = BundleRequest(path=bundle, expect_sha256=expect_sha256, verify_key=verify)
    if self_test:
        with time_limit(timeout, "--self-test"):
            return print_self_test(chosen.open())
    request = RunRequest(bundle=chosen, timeout=timeout, **options)
    if request.is_stream:
        from stale_runtime.commands.run_stream import run_stream  # only streams need it

        return run_stream(request)
    return run_files(request)


def main() -> None:
    """Run ``stale-run``."""
    console.run_command(stale_run, NAME)


def print_self_test(bundle: Bundle) -> int:
    """Check a bundle and print the result of each test.

    Returns:
        The exit code, 0.

    Raises:
        BundleError: a file is broken, or a test failed.
    """
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


if __name__ == "__main__":
    main()
