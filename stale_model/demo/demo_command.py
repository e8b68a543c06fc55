"""``python -m stale_model.demo``: drawn videos with annotations and splits, and the towers that embed them.

The towers are trained on drawn stills with captions. None of them shows one of the unseen classes, so a network that is
trained on the seen classes finds the unseen ones by their names alone.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import click
import numpy as np

from stale_model.demo.demo_classes import SEEN, SPLITS, UNSEEN
from stale_model.demo.demo_footage import write_video
from stale_model.demo.demo_towers import DemoTowers
from stale_model.demo.stills import draw_stills
from stale_model.demo.timelines import DemoVideo, draw_timelines
from stale_model.demo.tower_files import text_tower_files, write_vision_folder
from stale_model.demo.tower_training import TowerTraining, tower_accuracy, train_towers
from stale_runtime.errors import DatasetError
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.workspace import workspace
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH

NAME = "python -m stale_model.demo"
HELD_OUT = 1000
"""Stills that show how good the towers are."""
_COMPARED = 9
_HELD_OUT_SEED = 1_000_000
Watch: TypeAlias = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Gets items, what is done to them, and how many there are, and yields them; it can show progress, because work is done
after each."""


def watch_nothing(items: Iterable[Any], _label: str, _total: int) -> Iterable[Any]:
    """Show no progress."""
    return items


@dataclass(frozen=True, kw_only=True)
class DemoSize:
    """How much is drawn. A video or a still does not depend on how many there are of the other."""

    videos: int = 120
    """For training; they show seen classes."""
    validation_videos: int = 60
    """They alternate between seen and unseen classes."""
    stills: int = 12_000
    """That the towers are trained on."""
    epochs: int = 7
    """Of the towers' training. With fewer than 600 steps of 128 stills they are too weak to show anything."""


@dataclass(frozen=True, kw_only=True)
class TowerScores:
    """Of held-out stills, the part whose class the towers find among all, in [0, 1]."""

    seen: float
    unseen: float
    """Of pairs that the towers were not trained on."""


def write_demo(folder: Path, size: DemoSize, *, seed: int = 0, watch: Watch = watch_nothing) -> TowerScores:
    """Write the data set, completely or not at all; on one machine, the same arguments give the same bytes.

    Args:
        folder: a new or empty one.
        size: how much is drawn.
        seed: seed of everything.
        watch: shows progress.

    Returns:
        How good the towers are.

    Raises:
        DatasetError: the folder is not empty, or cannot be written.
    """
    target = folder.absolute()
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise DatasetError(f"{folder}: exists and is not empty; give a new folder, or remove it first")
        target.parent.mkdir(parents=True, exist_ok=True)
        with workspace(target.parent) as space:
            fresh = space / "new"  # a folder with the usual permissions: the workspace itself is private
            timelines = {
                "training": draw_timelines("training", size.videos, seed),
                "validation": draw_timelines("validation", size.validation_videos, seed),
            }
            _write_texts(fresh, timelines)
            _write_videos(fresh / "videos", timelines, seed, watch)
            scores = _write_towers(fresh, size, seed, watch)
            fresh.rename(target)
    except OSError as problem:
        raise DatasetError(f"{folder}: {why_unwritten(problem)}") from problem
    return scores


def _write_texts(folder: Path, timelines: dict[str, list[DemoVideo]]) -> None:
    (folder / "splits").mkdir(parents=True)
    for split, classes in SPLITS.items():
        (folder / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in classes))
    database = {video.name: video.entry(subset) for subset, drawn in timelines.items() for video in drawn}
    (folder / "annotations.json").write_text(json.dumps({"version": "demo", "database": database}, indent=1) + "\n")


def _write_videos(folder: Path, timelines: dict[str, list[DemoVideo]], seed: int, watch: Watch) -> None:
    for subset in timelines:
        (folder / subset).mkdir(parents=True)
    all_videos = [(subset, video) for subset, drawn in timelines.items() for video in drawn]
    for subset, video in watch(all_videos, "Drawing videos", len(all_videos)):
        write_video(folder / subset / f"{video.name}.mp4", video, seed)


def _write_towers(folder: Path, size: DemoSize, seed: int, watch: Watch) -> TowerScores:
    stills = draw_stills(size.stills, seed, unseen=False)
    towers = DemoTowers.draw(SPLITS["all"], seed)

    def watch_steps(steps: Iterator[int], total: int) -> Iterator[int]:
        return iter(watch(steps, "Training towers", total))

    train_towers(towers, stills, TowerTraining(epochs=size.epochs, seed=seed), watch=watch_steps)
    for name in ("clip", "vision"):
        (folder / name).mkdir()
    for name, content in text_tower_files(towers).items():
        (folder / "clip" / name).write_bytes(content)
    write_vision_folder(folder / "vision", towers, stills.images[:_COMPARED])
    held_out = draw_stills(HELD_OUT, seed + _HELD_OUT_SEED, unseen=True)
    accuracy = tower_accuracy(towers, held_out, SPLITS["all"])
    seen, unseen = (float(np.mean([accuracy.get(name, 0.0) for name in names])) for names in (SEEN, UNSEEN))
    return TowerScores(seen=seen, unseen=unseen)


@click.command(epilog="Exit codes: 0 done, 2 usage, 3 the folder cannot be written, 1 a bug in stale-edge.")
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
