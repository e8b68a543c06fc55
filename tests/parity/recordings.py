"""Recorded forward passes of the original."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FORWARD_NAMES = ("T100_unseen50", "T100_all200", "T200_unseen50", "T64_seven")


@dataclass(frozen=True, kw_only=True)
class ForwardRecording:
    """The outputs of the original network for one video."""

    video: str
    length: int
    classes: list[int]
    """The prompts, as line numbers in the list of all classes, from 0."""
    outputs: Mapping[str, NDArray[np.float32]]


def forward_recordings(reference: Path, name: str) -> Iterator[ForwardRecording]:
    """The recordings of one file, video by video."""
    names = (reference / "classes.txt").read_text().splitlines()
    kind = name.split("_")[1]
    chosen = {
        "unseen50": (reference / "classes_unseen.txt").read_text().splitlines(),
        "all200": names,
        "seven": (reference / "classes_seen.txt").read_text().splitlines()[:7],
    }[kind]
    recorded = np.load(reference / "golden" / f"forward_{name}.npz")
    for video in sorted({key.split("/")[0] for key in recorded.files}):
        outputs = {key.split("/")[1]: recorded[key] for key in recorded.files if key.startswith(f"{video}/")}
        yield ForwardRecording(
            video=video,
            length=outputs["action_masks"].shape[0],
            classes=[names.index(label) for label in chosen],
            outputs=outputs,
        )
