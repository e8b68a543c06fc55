"""``python -m stale_model.demo.example_videos``: draws the videos in ``examples/``, and writes what happens in them."""

import json
from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import Final, NamedTuple

import click

from stale_model.demo.demo_classes import SEEN, SPLITS, UNSEEN
from stale_model.demo.demo_footage import write_video
from stale_model.demo.timelines import DemoVideo, draw_timeline
from stale_runtime.exit_codes import describe_exit_codes
from stale_runtime.system.files import why_unwritten
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH

NAME = "python -m stale_model.demo.example_videos"
EXAMPLES: Final[Mapping[str, Sequence[str]]] = {"Washing a car": SEEN, "Painting a dog": UNSEEN}
"""The class of each video, and the classes of its split."""
HEIGHT: Final = 360
"""Pixels of a frame; its width is 480. That is three times the demo's, because people look at these videos."""
FRAMES_PER_SECOND: Final = 12
SHORTEST_S, LONGEST_S = 20.0, 40.0
ACTIONS: Final = 2
SHORTEST_ACTION_S: Final = 5.0
SHORTEST_PAUSE_S: Final = 4.0


class ExampleVideo(NamedTuple):
    """A video of the examples."""

    video: DemoVideo
    seed: int


def choose_example(label: str) -> ExampleVideo:
    """The video with the lowest seed that suits, whatever a network finds in it.

    It lasts 20 to 40 seconds and has two actions of its class, of 5 seconds or more and with a pause of 4 seconds or
    more between them, so that a picture of its timeline shows what is marked.

    Args:
        label: a key of ``EXAMPLES``.
    """
    name = label.lower().replace(" ", "_")
    drawn = (ExampleVideo(draw_timeline(name, label, EXAMPLES[label], seed), seed) for seed in count())
    return next(example for example in drawn if _suits(example.video, label))


def _suits(video: DemoVideo, label: str) -> bool:
    actions = video.annotations
    if not SHORTEST_S <= video.duration_s <= LONGEST_S or [row.label for row in actions] != ACTIONS * [label]:
        return False
    pauses_s = [later.start_s - row.end_s for row, later in pairwise(actions)]
    return min(pauses_s) >= SHORTEST_PAUSE_S and min(row.end_s - row.start_s for row in actions) >= SHORTEST_ACTION_S


@click.command(epilog=describe_exit_codes())
@click.argument("folder", type=PATH)
def example_videos(folder: Path) -> None:
    """Draw the videos of the examples into FOLDER.

    Beside them it writes classes.txt, the demo's classes, and truth.json, what happens when in the videos, in
    ActivityNet's format. Files of the same names are replaced. The videos are not those of the demo: they are drawn in
    the same way, only larger.
    """
    chosen = [choose_example(label) for label in EXAMPLES]
    database = {video.name: video.entry("validation") for video, _ in chosen}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in SPLITS["all"]))
        (folder / "truth.json").write_text(json.dumps({"version": "example", "database": database}, indent=1) + "\n")
        for video, seed in chosen:
            path = folder / f"{video.name}.mp4"
            write_video(path, video, seed, height=HEIGHT, frames_per_second=FRAMES_PER_SECOND)
            console.echo(f"{path}: seed {seed}, {video.duration_s:g} s, {path.stat().st_size:,} bytes")
    except OSError as problem:
        raise click.UsageError(f"{folder}: {why_unwritten(problem)}") from problem


def main() -> None:
    """Run ``python -m stale_model.demo.example_videos``."""
    console.run_command(example_videos, NAME)


if __name__ == "__main__":
    main()
