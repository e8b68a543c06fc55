"""Videos to train on: those that can be used, a sample of them, and the features and targets of each."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stale_model.data.feature_cache import FeatureCache, read_resampled
from stale_model.data.targets import Targets, video_targets
from stale_model.data.usable_features import UsableFeatures, examine_features
from stale_runtime.errors import DatasetError, FeatureError, RecipeError
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, AnnotatedVideo, Annotation, GroundTruth
from stale_runtime.inputs.feature_folder import feature_files
from stale_runtime.inputs.feature_origin import FeatureOrigin
from stale_runtime.inputs.feature_statistics import FeatureSummary


class VideoSample(NamedTuple):
    """A video that can be trained on."""

    video: str
    """Its id, without ``v_``."""
    path: Path
    """Its feature file."""
    duration_s: float
    """> 0"""
    annotations: tuple[Annotation, ...]
    """In seconds; at least one with a class. Of validation videos also THUMOS14's ``Ambiguous`` segments."""


class LeftOut(StrEnum):
    """Why a video cannot be trained on; if several reasons apply, the first in this order."""

    NO_ANNOTATIONS = "without annotations"
    NO_DURATION = "without duration"
    OTHER_LABELS = "with labels outside the list"
    NO_FEATURES = "without features"
    UNUSABLE = "with unusable features"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The videos that can be trained on, and those that cannot."""

    samples: tuple[VideoSample, ...]
    """In the order of the annotations, which the published mAP depends on."""
    left_out: Mapping[LeftOut, tuple[str, ...]] = field(default_factory=dict)
    """Ids of the videos left out, by reason; only reasons that apply to a video."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with an unusable feature file, on one line, by video id."""
    summaries: Mapping[str, FeatureSummary] = field(default_factory=dict)
    """What the features of each sample look like, by video id."""
    origins: Mapping[str, FeatureOrigin] = field(default_factory=dict)
    """How the features of a sample were made, by video id; only where ``stale-features`` wrote it beside them."""

    def __str__(self) -> str:
        """One line of text, such as ``290 of 1,930 videos; left out: 1,640 without features``."""
        total = len(self.samples) + sum(map(len, self.left_out.values()))
        line = f"{len(self.samples):,} of {total:,} videos"
        if self.left_out:
            line += "; left out: " + ", ".join(f"{len(ids):,} {why}" for why, ids in self.left_out.items())
        return line


def select_videos(
    truth: GroundTruth,
    features: Path,
    classes: Sequence[str],
    *,
    channels: int,
    examine: Callable[[Path], UsableFeatures] | None = None,
    watch: Callable[[Sequence[VideoSample]], Iterable[VideoSample]] = iter,
    say: Callable[[str], object] | None = None,
) -> Selection:
    """Find the videos that can be trained on.

    A video needs annotations, all of them of ``classes`` (others would be trained as background) or ``Ambiguous``, a
    known duration, and a feature file ``v_ID.npy`` or ``ID.npy``. The whole file is read once, since a NaN that only
    shows up in the middle of an epoch would end a training that has run for hours; later epochs find it in the page
    cache.

    Args:
        truth: annotated videos.
        features: folder of the feature files.
        classes: K class names.
        channels: C, the width of the features.
        examine: what is known of a feature file, such as ``CacheBuilder.examine``; None to read each.
        watch: yields the videos that it gets, and can show progress, because a file is read after each.
        say: called with a line about what is ignored in the folder, or taken otherwise than it is.

    Raises:
        FeatureError: the folder cannot be read, contains no feature files, or two of one video.
        DatasetError: no video is left.
        OutputError: ``examine`` cannot write its cache.
    """
    files, known = feature_files(features, say=say), frozenset(classes)
    samples: list[VideoSample] = []
    left_out: dict[LeftOut, list[str]] = {why: [] for why in LeftOut}
    candidates: list[VideoSample] = []
    for video, annotated in truth.videos.items():
        found = _find_sample(video, annotated, files, known)
        if isinstance(found, LeftOut):
            left_out[found].append(video)
        else:
            candidates.append(found)
    problems: dict[str, str] = {}
    summaries: dict[str, FeatureSummary] = {}
    origins: dict[str, FeatureOrigin] = {}
    notes: list[str] = []
    for sample in watch(candidates):
        try:
            usable = examine(sample.path) if examine is not None else examine_features(sample.path, channels)[1]
        except (FeatureError, RecipeError) as problem:
            left_out[LeftOut.UNUSABLE].append(sample.video)
            problems[sample.video] = str(problem)
            continue
        samples.append(sample)
        notes += [usable.note] if usable.note is not None else []
        if usable.origin is not None:
            origins[sample.video] = usable.origin
        if usable.summary is not None:
            summaries[sample.video] = usable.summary
    if notes and say is not None:
        say(notes[0] if len(notes) == 1 else f"{notes[0]}, and so are those of {len(notes) - 1:,} more")
    selection = Selection(
        samples=tuple(samples),
        left_out={why: tuple(sorted(ids)) for why, ids in left_out.items() if ids},
        problems=problems,
        summaries=summaries,
        origins=origins,
    )
    if not samples:
        raise DatasetError(f"{features}: nothing to train on, {selection}; {_remedy(selection)}")
    return selection


def sample_fraction(samples: Sequence[VideoSample], fraction: float, seed: int) -> tuple[VideoSample, ...]:
    """Draw a part of the videos uniformly.

    Videos are ranked by a hash of their id and the seed, so the sample does not depend on machine, version or order,
    and with one seed a smaller sample is part of a larger one.

    Args:
        samples: N videos.
        fraction: part to keep, in (0, 1].
        seed: decides which videos are kept.

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
    """A key to sort videos by, in a random order that depends on id and seed only."""
    return hashlib.sha256(f"{seed}:{video}".encode("utf-8", "surrogatepass")).digest()


class StaleDataset(Dataset[tuple[Tensor, Targets]]):
    """Features and targets of videos, read from disk one at a time."""

    def __init__(
        self,
        samples: Sequence[VideoSample],
        classes: Sequence[str],
        *,
        channels: int,
        length: int,
        cache: FeatureCache | None = None,
    ) -> None:
        """Choose what to read.

        Args:
            samples: the videos.
            classes: K names, in the network's order.
            channels: C
            length: T, in snippets.
            cache: one that has all the videos; None to read their files.
        """
        self.samples = tuple(samples)
        self._class_index = {name: k for k, name in enumerate(classes)}
        self._channels = channels
        self._length = length
        self._cache = cache

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        """Read a video.

        Returns:
            Features (T, C) of float32, and targets of shapes (T,), (K,), (T, T), (T,).

        Raises:
            FeatureError: the file cannot be read, or contains NaN or infinity.
        """
        sample = self.samples[index]
        features = read_resampled(sample.path, channels=self._channels, length=self._length, cache=self._cache)
        targets = video_targets(sample.annotations, sample.duration_s, self._class_index, self._length)
        return torch.from_numpy(features), targets


def collate(videos: Sequence[tuple[Tensor, Targets]]) -> tuple[Tensor, Targets]:
    """Stack videos into a batch.

    Args:
        videos: B items of a dataset.

    Returns:
        Features (B, T, C), and targets of shapes (B, T), (B, K), (B, T, T), (B, T).
    """
    features, targets = zip(*videos, strict=True)
    return torch.stack(features), Targets(*map(torch.stack, zip(*targets, strict=True)))


def _find_sample(
    video: str, annotated: AnnotatedVideo, files: Mapping[str, Path], known: frozenset[str]
) -> VideoSample | LeftOut:
    labels = {row.label for row in annotated.annotations} - {AMBIGUOUS}
    if not labels:
        return LeftOut.NO_ANNOTATIONS
    if annotated.duration_s is None or annotated.duration_s <= 0:
        return LeftOut.NO_DURATION
    if not labels <= known:
        return LeftOut.OTHER_LABELS
    if video not in files:
        return LeftOut.NO_FEATURES
    return VideoSample(video, files[video], annotated.duration_s, annotated.annotations)


def _remedy(selection: Selection) -> str:
    if selection.problems:
        return next(iter(selection.problems.values()))
    if LeftOut.NO_FEATURES in selection.left_out:
        return f"expected files such as v_{selection.left_out[LeftOut.NO_FEATURES][0]}.npy"
    if LeftOut.NO_DURATION in selection.left_out:
        return (
            "expected durations; give annotations in JSON that have them, or --video-info FILE with the columns "
            "video,subset,seconds (which takes the place of --all-training)"
        )
    if LeftOut.OTHER_LABELS in selection.left_out:
        return "expected videos whose labels are all seen classes, check the split"
    return "expected annotated videos with a class; give the subset that has them, such as --train-subset validation"
