"""What the pages of the documentation talk about, small enough for tests: videos, features, a checkpoint, a bundle."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests.cli.same_process import run
from tests.docs.blocks import ROOT
from tests.small_video import write_tower

CLASSES = {"Long jump": (220, 40, 40), "Archery": (40, 40, 220), "Polo": (40, 200, 40)}
"""The colour that something has while an action lasts."""
TRAINING, VALIDATION = 9, 3
SECONDS, FPS = 8, 10
SIZE = (96, 64)


def build_world(folder: Path, clip_folder: Path) -> None:
    """Write the files that the pages use into a folder."""
    write_tower(folder / "vision")
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    (folder / "splits").mkdir()
    seen, unseen = list(CLASSES)[:2], list(CLASSES)[2:]
    for name, classes in (("seen", seen), ("unseen", unseen)):
        (folder / "splits" / f"{name}.txt").write_text("\n".join(classes))
    database = draw_videos(folder)
    for name, wanted in (("activity_net", None), ("annotations", None), ("gt", "validation")):
        kept = {video: known for video, known in database.items() if wanted in (None, known["subset"])}
        (folder / f"{name}.json").write_text(json.dumps({"database": kept}))
    for part in ("train", "val"):
        succeed("stale-features", f"{part}_videos", "-o", f"{part}_feats", "--vision", "vision", cwd=folder)
    for name in ("feats", "features"):
        for part in ("train", "val"):
            shutil.copytree(folder / f"{part}_feats", folder / name, dirs_exist_ok=True)
    first = folder / "val_feats" / "validation_0.npy"
    shutil.copy(first, folder / "video_feats.npy")
    shutil.copy(first, folder / "feats.npy")
    shutil.copytree(folder / "val_videos", folder / "videos")
    shutil.copy(folder / "videos" / "validation_0.mp4", folder / "holiday.mp4")
    succeed(
        "stale-train",
        *("--annotations", "activity_net.json", "--features", "train_feats", "--split", "closed"),
        *("--clip", clip_folder, "--length", "32", "--epochs", "20", "--batch-size", "3", "--learning-rate", "3e-3"),
        *("--device", "cpu", "--threads", "1", "-o", "training"),
        cwd=folder,
    )
    shutil.copy(folder / "training" / "best.pth", folder)
    succeed(
        "stale-export",
        *("--ckpt", "best.pth", "--vision", "vision", "--classes", "classes.txt", "--calibration", "train_feats"),
        *("--validate", "gt.json", "--validation-features", "val_feats"),
        cwd=folder,
    )
    shutil.copytree(ROOT / "examples", folder / "examples")


def succeed(name: str, *arguments: str | Path, cwd: Path) -> None:
    """Run one of our commands."""
    done = run(name, *arguments, cwd=cwd)
    assert done.returncode == 0, f"{name}: {done.stderr}"


def draw_videos(folder: Path) -> dict[str, dict[str, object]]:
    """Draw ``train_videos`` and ``val_videos``, and give their annotations by id."""
    database: dict[str, dict[str, object]] = {}
    dice = np.random.default_rng(0)
    for part, subset, count in (("train", "training", TRAINING), ("val", "validation", VALIDATION)):
        (folder / f"{part}_videos").mkdir()
        for n in range(count):
            label = list(CLASSES)[n % len(CLASSES)]
            start = round(float(dice.uniform(0.5, 3)), 1)
            end = round(start + float(dice.uniform(2, 4)), 1)
            video = f"{subset}_{n}"
            draw_video(folder / f"{part}_videos" / f"{video}.mp4", CLASSES[label], start, end, dice)
            annotations = [{"segment": [start, end], "label": label}]
            database[video] = {"duration": float(SECONDS), "subset": subset, "annotations": annotations}
    return database


def draw_video(path: Path, colour: tuple[int, int, int], start: float, end: float, dice: np.random.Generator) -> None:
    """Draw a video of grey tiles, in which the middle has a colour from ``start`` to ``end`` seconds."""
    import av

    W, H = SIZE
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=Fraction(FPS), options={"b": "2000000"})
        stream.width, stream.height = W, H
        for n in range(SECONDS * FPS):
            grey = dice.integers(90, 160, (4, 6, 1), dtype=np.uint8).repeat(3, axis=2)
            pixels = grey.repeat(H // 4, axis=0).repeat(W // 6, axis=1)  # (H, W, 3)
            if start <= n / FPS < end:
                pixels[H // 4 : -H // 4, W // 3 : -W // 3] = colour
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
