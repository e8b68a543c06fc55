"""Videos to train on: which ones can be used, a sample of them, and what the network reads of each."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor
from torch.utils.data import Dataset

from stale_model.data.targets import Targets, video_targets
from stale_runtime.errors import DatasetError, FeatureError
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation, GroundTruth
from stale_runtime.inputs.features import MOST_SNIPPETS, read_features, resample
from stale_runtime.system.files import reason


class VideoSample(NamedTuple):
    """A video that can be trained on."""

    video: str
    """Its id, without ``v_``."""
    path: Path
    """Its feature file."""
    duration_s: float
    """> 0"""
    annotations: tuple[Annotation, ...]
    """At least one, in seconds."""


class LeftOut(StrEnum):
    """Why a video cannot be trained on; the first that holds, in this order."""

    NO_ANNOTATIONS = "without annotations"
    NO_DURATION = "without duration"
    OTHER_LABELS = "with labels outside the list"
    NO_FEATURES = "without features"
    UNREADABLE = "with unreadable features"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The videos that can be trained on, and those that cannot."""

    samples: tuple[VideoSample, ...]
    """Ordered by id."""
    left_out: Mapping[LeftOut, tuple[str, ...]] = field(default_factory=dict)
    """Ids of the videos left out, by reason; a reason that no video has is not there."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with an unreadable feature file, on one line, by video id."""

    def __str__(self) -> str:
        """One line for people, such as ``290 of 1,930 videos; left out: 1,640 without features``."""
        total = len(self.samples) + sum(map(len, self.left_out.values()))
        line = f"{len(self.samples):,} of {total:,} videos"
        if self.left_out:
            line += "; left out: " + ", ".join(f"{len(ids):,} {why}" for why, ids in self.left_out.items())
        return line


def select_videos(truth: GroundTruth, features: Path, classes: Sequence[str], *, channels: int) -> Selection:
    """Find the videos that can be trained on.

    Those are the ones with annotations, all of them of ``classes`` (another class would be trained as background), with
    a known duration, and with a feature file ``v_ID.npy`` or ``ID.npy``. Of that file only header and size are checked
    here, the values when it is read.

    Args:
        truth: annotated videos.
        features: folder of the feature files.
        classes: K class names.
        channels: C, the width of the features.

    Raises:
        DatasetError: the folder cannot be read, or no video is left.
    """
    files, known = _feature_files(features), frozenset(classes)
    samples: list[VideoSample] = []
    left_out: dict[LeftOut, list[str]] = {why: [] for why in LeftOut}
    problems: dict[str, str] = {}
    for video, annotated in sorted(truth.videos.items()):
        found = _sample(video, annotated, features, files, known)
        if isinstance(found, LeftOut):
            left_out[found].append(video)
        elif problem := _problem(found.path, channels):
            left_out[LeftOut.UNREADABLE].append(video)
            problems[video] = problem
        else:
            samples.append(found)
    selection = Selection(
        samples=tuple(samples), left_out={why: tuple(ids) for why, ids in left_out.items() if ids}, problems=problems
    )
    if not samples:
        raise DatasetError(f"{features}: nothing to train on, {selection}; {_remedy(selection)}")
    return selection


def sample_fraction(samples: Sequence[VideoSample], fraction: float, seed: int) -> tuple[VideoSample, ...]:
    """Draw a part of the videos uniformly.

    A video's rank is a hash of its id and the seed: the same on every machine and version, whatever the order of the
    videos, and of one seed a smaller part is contained in a larger one.

    Args:
        samples: N videos.
        fraction: part to keep, in (0, 1].
        seed: which part.

    Returns:
        round(fraction · N) videos, at least one, ordered by id.

    Raises:
        ValueError: the fraction is outside (0, 1].
        DatasetError: there is no video.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}, expected more than 0 and at most 1")
    if not samples:
        raise DatasetError("no videos, expected at least one to sample from")

    kept = sorted(samples, key=lambda sample: rank(sample.video, seed))[: max(1, round(fraction * len(samples)))]
    return tuple(sorted(kept, key=lambda sample: sample.video))


def rank(video: str, seed: int) -> bytes:
    """Where a video comes in a drawing order that depends on its id and the seed alone."""
    return hashlib.sha256(f"{seed}:{video}".encode("utf-8", "surrogatepass")).digest()


class StaleDataset(Dataset[tuple[Tensor, Targets]]):
    """Features and targets of videos, read from disk one by one."""

    def __init__(self, samples: Sequence[VideoSample], classes: Sequence[str], *, channels: int, length: int) -> None:
        """Args: samples; classes: K names, in the network's order; channels: C; length: T, in snippets."""
        self.samples = tuple(samples)
        self._class_index = {name: k for k, name in enumerate(classes)}
        self._channels = channels
        self._length = length

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        """Read a video.

        Returns:
            Features (T, C) of float32, and targets of shapes (T,), (K,), (T, T), (T,).

        Raises:
            FeatureError: the file cannot be read, or holds what no network should see.
        """
        sample = self.samples[index]
        features = resample(read_features(sample.path, self._channels), self._length)  # (T, C)
        targets = video_targets(sample.annotations, sample.duration_s, self._class_index, self._length)
        return torch.from_numpy(features), targets


def collate(videos: Sequence[tuple[Tensor, Targets]]) -> tuple[Tensor, Targets]:
    """Stack videos to a batch.

    Args:
        videos: B items of a dataset.

    Returns:
        Features (B, T, C), and targets of shapes (B, T), (B, K), (B, T, T), (B, T).
    """
    features, targets = zip(*videos, strict=True)
    return torch.stack(features), Targets(*map(torch.stack, zip(*targets, strict=True)))


def _sample(
    video: str, annotated: AnnotatedVideo, features: Path, files: frozenset[str], known: frozenset[str]
) -> VideoSample | LeftOut:
    if not annotated.annotations:
        return LeftOut.NO_ANNOTATIONS
    if annotated.duration_s is None or annotated.duration_s <= 0:
        return LeftOut.NO_DURATION
    if any(row.label not in known for row in annotated.annotations):
        return LeftOut.OTHER_LABELS
    for name in (f"v_{video}.npy", f"{video}.npy"):
        if name in files:
            return VideoSample(video, features / name, annotated.duration_s, annotated.annotations)
    return LeftOut.NO_FEATURES


def _feature_files(folder: Path) -> frozenset[str]:
    """Names in the folder; an id is looked up among them, so that none leads out of it."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.name.endswith(".npy") and entry.is_file())
    except OSError as problem:
        raise DatasetError(f"{folder}: {reason(problem)}; give the folder of the .npy feature files") from problem


def _problem(path: Path, channels: int) -> str | None:
    """What is wrong with a feature file as far as its header and size tell."""
    if _looks_right(path, channels):
        return None
    try:
        read_features(path, channels)  # says what it is
    except FeatureError as problem:
        return str(problem)
    return None


def _looks_right(path: Path, channels: int) -> bool:
    """Whether a file need not be read to know that it holds features of this width; its values are not looked at."""
    try:
        mapped = npy.open_memmap(path, mode="r")
        size = path.stat().st_size
    except Exception:  # whatever a crafted header makes numpy raise
        return False
    return (
        mapped.ndim == 2
        and mapped.shape[1] == channels
        and 1 <= mapped.shape[0] <= MOST_SNIPPETS
        and mapped.dtype in (np.float16, np.float32, np.float64)
        and size == mapped.offset + mapped.nbytes
    )


def _remedy(selection: Selection) -> str:
    if selection.problems:
        return next(iter(selection.problems.values()))
    if LeftOut.NO_FEATURES in selection.left_out:
        return f"expected files such as v_{selection.left_out[LeftOut.NO_FEATURES][0]}.npy"
    if LeftOut.OTHER_LABELS in selection.left_out:
        return "expected videos of the seen classes alone, check the split"
    return "expected annotated videos with their duration, check the subset"
