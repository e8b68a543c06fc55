"""``python -m stale_model.demo``: draws the demo's data set. PyTorch is loaded once the options are parsed."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from stale_model.demo.demo_classes import SEEN, SPLITS, UNSEEN
from stale_runtime.errors import MissingPackageError
from stale_runtime.exit_codes import MISSING_PACKAGE, describe_exit_codes
from stale_runtime.system.cpus import wait_passively
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH

NAME = "python -m stale_model.demo"


@click.command(epilog=describe_exit_codes(MISSING_PACKAGE))
@click.argument("folder", type=PATH)
@click.option("--videos", type=click.IntRange(1, 9999), default=120, show_default=True, help="Videos to train on.")
@click.option(
    "--validation-videos",
    type=click.IntRange(0, 9999),
    default=60,
    show_default=True,
    help="Videos to validate on; every second one shows an unseen class.",
)
@click.option(
    "--stills",
    type=click.IntRange(128, 1_000_000),
    default=12_000,
    show_default=True,
    help="Captioned stills to train the towers on.",
)
@click.option("--epochs", type=click.IntRange(1, 1000), default=7, show_default=True, help="Passes over the stills.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the drawings and the towers; on one machine, equal seeds give equal files.",
)
def demo(folder: Path, videos: int, validation_videos: int, stills: int, epochs: int, seed: int) -> None:
    """Draw a small data set of videos into FOLDER, which is new or empty, and train a small CLIP for it.

    \b
    videos/           training/ and validation/, drawn videos of people who do something with a thing (MP4)
    annotations.json  what happens when in which video, in ActivityNet's format
    splits/           seen.txt, unseen.txt and all.txt: class names
    vision/           the image tower in ONNX, and recipe.json, which says how it is used
    clip/             the text tower and its tokenizer, as Hugging Face lays them out
    """  # noqa: D301 -- click reads the backslash
    wait_passively()
    try:
        from stale_model.demo.demo_folder import DemoSize, write_demo
    except ModuleNotFoundError as problem:
        raise MissingPackageError.for_extra(f"the demo needs {problem.name}", "export,video") from problem
    started = time.perf_counter()

    def watch(items: Iterable[Any], label: str, total: int) -> Iterable[Any]:
        return console.progress(items, label=label, total=total)

    size = DemoSize(videos=videos, validation_videos=validation_videos, stills=stills, epochs=epochs)
    scores = write_demo(folder, size, seed=seed, watch=watch)
    bytes_ = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    console.echo(
        f"{folder}: {videos} training and {validation_videos} validation videos of {len(SEEN)} seen and {len(UNSEEN)} "
        f"unseen classes, {bytes_ / 1e6:.0f} MB in {time.perf_counter() - started:.0f} s\n"
        f"of other stills, the towers name {scores.seen:.0%} of the seen and {scores.unseen:.0%} of the unseen classes "
        f"right; chance is {1 / len(SPLITS['all']):.0%}"
    )


def main() -> None:
    """Run ``python -m stale_model.demo``."""
    console.run_command(demo, NAME)


if __name__ == "__main__":
    main()
