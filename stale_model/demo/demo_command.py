"""``python -m stale_model.demo``: a synthetic data set with a CLIP, videos, annotations and splits.

Actions are drawn from the embeddings of their class names, so a network that is trained on the seen classes can find
the unseen ones by name.
"""

import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
import numpy as np

from stale_model.demo.demo_clip import DemoClip, make_clip
from stale_model.demo.demo_videos import DemoVideo, draw_timeline, draw_video_features
from stale_runtime.errors import DatasetError
from stale_runtime.segments import FloatArray
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.workspace import workspace
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH

NAME = "python -m stale_model.demo"
SEEN = (
    *("Washing a car", "Washing a window", "Washing a dog", "Painting a car", "Painting a window", "Painting a fence"),
    *("Carrying a dog", "Carrying a window", "Carrying a bicycle", "Repairing a car", "Repairing a fence"),
    *("Repairing a bicycle", "Photographing a dog", "Photographing a fence", "Photographing a bicycle"),
)
UNSEEN = ("Washing a bicycle", "Painting a dog", "Carrying a fence", "Repairing a window", "Photographing a car")
"""New combinations of words from the seen classes, so that a trained network understands their prompts."""
SPLITS = {"seen": SEEN, "unseen": UNSEEN, "all": (*SEEN, *UNSEEN)}


def write_demo(
    folder: Path,
    *,
    videos: int = 160,
    validation_videos: int = 60,
    seed: int = 0,
    watch: Callable[[Sequence[DemoVideo]], Iterable[DemoVideo]] = iter,
) -> None:
    """Write the data set, completely or not at all; the same arguments give the same bytes.

    Args:
        folder: a new or empty one.
        videos: number of training videos, which show seen classes.
        validation_videos: number of validation videos, which alternate between seen and unseen classes.
        seed: seed of the tower's weights and the videos. A video does not depend on how many are written.
        watch: yields the videos that it gets, and can show progress, because a video is written after each.

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
                "training": draw_timelines("training", videos, seed),
                "validation": draw_timelines("validation", validation_videos, seed),
            }
            clip = make_clip(SPLITS["all"], seed)
            _write_texts(fresh, clip, timelines)
            _write_features(fresh / "features", clip, watch([*timelines["training"], *timelines["validation"]]), seed)
            fresh.rename(target)
    except OSError as problem:
        raise DatasetError(f"{folder}: {why_unwritten(problem)}") from problem


def draw_timelines(subset: str, count: int, seed: int) -> list[DemoVideo]:
    """Draw the timelines of a subset: seen classes for training, seen and unseen ones alternating for validation."""
    kinds = [SEEN] if subset == "training" else [SEEN, UNSEEN]
    timelines = []
    for number in range(count):
        turn, kind = divmod(number, len(kinds))
        classes = kinds[kind]
        name = f"{subset}_{number:04}"
        timelines.append(draw_timeline(name, classes[turn % len(classes)], classes, seed))
    return timelines


def class_directions(clip: DemoClip) -> dict[str, FloatArray]:
    """Unit vectors (CHANNELS,) along the prompts' embeddings, minus their mean."""
    embeddings = clip.embed(SPLITS["all"])
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings -= embeddings.mean(axis=0)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return dict(zip(SPLITS["all"], embeddings, strict=True))


def _write_texts(folder: Path, clip: DemoClip, timelines: dict[str, list[DemoVideo]]) -> None:
    for name in ("clip", "splits", "features"):
        (folder / name).mkdir(parents=True)
    for name, content in clip.files().items():
        (folder / "clip" / name).write_bytes(content)
    for split, classes in SPLITS.items():
        (folder / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in classes))
    database = {video.name: video.entry(subset) for subset, drawn in timelines.items() for video in drawn}
    (folder / "annotations.json").write_text(json.dumps({"version": "demo", "database": database}, indent=1) + "\n")


def _write_features(folder: Path, clip: DemoClip, videos: Iterable[DemoVideo], seed: int) -> None:
    directions = class_directions(clip)
    for video in videos:
        buffer = io.BytesIO()  # numpy's own error on a full disk would not say that it is full
        np.save(buffer, draw_video_features(video, directions, seed))
        (folder / f"v_{video.name}.npy").write_bytes(buffer.getvalue())


@click.command(epilog="Exit codes: 0 done, 2 usage, 3 the folder cannot be written, 1 a bug in stale-edge.")
@click.argument("folder", type=PATH)
@click.option("--videos", type=click.IntRange(1, 9999), default=160, show_default=True, help="Videos to train on.")
@click.option(
    "--validation-videos",
    type=click.IntRange(0, 9999),
    default=60,
    show_default=True,
    help="Videos to validate on; every second one shows an unseen class.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the weights and the videos; equal seeds give equal files.",
)
def demo(folder: Path, videos: int, validation_videos: int, seed: int) -> None:
    """Write a small synthetic data set to FOLDER, which is new or empty.

    \b
    clip/             a text tower with seeded weights and a tokenizer, as Hugging Face lays them out
    features/         v_ID.npy of every video: CLIP-like snippet features, (snippets, 512)
    annotations.json  what happens when in which video, in ActivityNet's format
    splits/           seen.txt, unseen.txt and all.txt: class names
    """  # noqa: D301 -- click reads the backslash
    started = time.perf_counter()

    def watch(drawn: Sequence[DemoVideo]) -> Iterable[DemoVideo]:
        return console.progress(drawn, label="Drawing videos", total=len(drawn))

    write_demo(folder, videos=videos, validation_videos=validation_videos, seed=seed, watch=watch)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    console.echo(
        f"{folder}: {videos} training and {validation_videos} validation videos of {len(SEEN)} seen and {len(UNSEEN)} "
        f"unseen classes, {size / 1e6:.0f} MB in {time.perf_counter() - started:.1f} s"
    )


def main() -> None:
    """Run ``python -m stale_model.demo``."""
    console.run_command(demo, NAME)


if __name__ == "__main__":
    main()
