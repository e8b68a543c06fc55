"""The folder of the demo's data set: drawn videos with annotations and splits, and the towers that embed them.

The towers are trained on drawn stills with captions. None of them shows one of the unseen classes, so a network that is
trained on the seen classes finds the unseen ones by their names alone.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxscript  # noqa: F401 -- PyTorch's exporter needs it, and would only say so after the training

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
