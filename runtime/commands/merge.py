"""``stale-merge``: puts together what the shards of a run found."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from stale_runtime import __version__, errors
from stale_runtime.batch.merging import Merge, open_results
from stale_runtime.batch.result_store import ResultStore
from stale_runtime.batch.video_list import read_video_list
from stale_runtime.commands.merge_request import MergeRequest
from stale_runtime.detections import FRACTION
from stale_runtime.exit_codes import BAD_INPUT, DONE, MISSING_PACKAGE, SOME_FAILED, describe_exit_codes
from stale_runtime.formats.merged_formats import MERGED_FORMATS
from stale_runtime.formats.result_rows import FailedVideo
from stale_runtime.system.files import why_unwritten, write_whole
from stale_runtime.system.workspace import workspace
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH
from stale_runtime.terminal.output import destination

NAME = "stale-merge"


@click.command(epilog=describe_exit_codes(SOME_FAILED, MISSING_PACKAGE))
@click.argument("inputs", nargs=-1, type=PATH, metavar="[INPUT]...")
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Write all detections to this file.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(list(MERGED_FORMATS)),
    help=f"{'; '.join(f'{merged.form.name}: {merged.form.help}' for merged in MERGED_FORMATS.values())}.  [default: "
    "what FILE of -o ends with]",
)
@click.option(
    "--videos",
    type=PATH,
    metavar="LIST",
    help="Which videos must be there, no more and no less: text with an id, a path or an address on each line, or "
    "Parquet with the column video. Shards of stale-run know it themselves.",
)
@click.option("--incomplete", is_flag=True, help="Write what is there, even if shards or videos are missing.")
@click.version_option(__version__, prog_name=NAME)
def stale_merge(**options: Any) -> int:
    """Put together what the shards of a run found.

    INPUTs are the files that stale-run --shard wrote in JSON lines or Parquet, the folder of these files, or a folder
    of Parquet files that Ray wrote.

    FILE is what one stale-run over all videos would have written, in order of video ids. It is written only if every
    shard and every video is there once, and all shards had the same videos, options and bundle.

    \b
      stale-run feats/ --prompts classes.txt --shard 0/2 -o shards/0.jsonl
      stale-run feats/ --prompts classes.txt --shard 1/2 -o shards/1.jsonl
      stale-merge shards/ -o detections.json
      stale-merge shards/0.jsonl shards/1.jsonl --format csv -o detections.csv
    """  # noqa: D301 -- click reads the backslash
    return merge_files(MergeRequest(**options))


def main() -> None:
    """Run ``stale-merge``."""
    console.run_command(stale_merge, NAME)


def merge_files(request: MergeRequest) -> int:
    """Merge, and report on stderr which videos failed.

    Returns:
        The exit code.

    Raises:
        StaleError: a file cannot be used, or something is missing.
    """
    assert request.output is not None
    expected = None if request.videos is None else read_video_list(request.videos)
    files = [open_results(path) for path in request.files()]
    merge = Merge(files=files, form=request.form, expected=expected, incomplete=request.incomplete)
    output = destination(request.output)
    try:
        with workspace(output.parent) as folder, open(folder / "videos", "w+b") as file:
            store = ResultStore(file)
            merge.collect(store, watch=partial(console.progress, label="reading", total=len(files)))
            failed = list(merge.failed(store))
            if len(failed) < len(store):
                write_whole(output, merge.pieces(store))
    except OSError as problem:
        raise click.UsageError(f"-o {request.output}: {why_unwritten(problem)}") from problem
    return _conclude(merge, failed, len(store), request.output)


def _conclude(merge: Merge, failed: Sequence[FailedVideo], videos: int, output: Path) -> int:
    """Say what was merged and what failed, and return the exit code that ``stale-run`` would have had."""
    if merge.repeated:
        console.note(NAME, f"{merge.repeated:,} videos were there more than once, with equal results")
    if merge.form.form.name == "csv" and merge.run.unit == FRACTION:
        console.note(NAME, "times are fractions of the video; give --durations FILE to stale-run for seconds")
    for video in failed:
        console.note(NAME, f"error: {video.message}")
    if len(failed) == videos:
        console.note(NAME, f"all {videos:,} videos failed")
        return _exit_code(failed[0])
    files = f"{len(merge.files):,} file{'' if len(merge.files) == 1 else 's'}"
    console.note(NAME, f"{videos - len(failed):,} videos of {files}, written to {output}")
    if failed:
        console.note(NAME, f"{len(failed):,} of {videos:,} videos failed, the others are done")
    return SOME_FAILED if failed else DONE


def _exit_code(video: FailedVideo) -> int:
    """The exit code of a run whose only video failed like this."""
    kind = getattr(errors, video.error, None)
    return kind.exit_code if isinstance(kind, type) and issubclass(kind, errors.StaleError) else BAD_INPUT


if __name__ == "__main__":
    main()
