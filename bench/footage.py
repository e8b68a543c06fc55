"""Videos of about a given number of snippets: random ones, or feature files that are joined end to end."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stale_bench.benchmark_inputs import Evaluation, MeasuredVideos
from stale_runtime.detections import Detection
from stale_runtime.errors import BenchmarkError
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation, GroundTruth
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.features import CLIP_NORM
from stale_runtime.segments import FloatArray
from stale_runtime.system.files import reason
from stale_runtime.system.memory import require_memory

_BLOCK = 4096
"""Random snippets that are drawn at once, in float64."""


@dataclass(frozen=True, kw_only=True)
class Footage:
    """Videos of about the same number of snippets."""

    videos: MeasuredVideos
    timed: tuple[str, ...]
    """Ids of the videos that are timed: those that have all the snippets that were asked for."""
    evaluation: Evaluation | None
    """What mAP is computed on, in snippets, as if each took a second; None for no mAP."""
    pieces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids of the videos that each joined video consists of, in order; none of random videos."""

    def timed_video(self, launch: int) -> str:
        """Id of the video that a launch is timed on; each launch takes another one, if there is one."""
        return self.timed[launch % len(self.timed)]


def random_footage(snippets: int, channels: int, *, seed: int, folder: Path) -> Footage:
    """Write a random video: noise around one direction, as ``random_features``, in float16.

    Args:
        snippets: N, how many it has.
        channels: C
        seed: seed of the features.
        folder: where its file is written.

    Raises:
        BenchmarkError: it cannot be written.
        OutOfMemoryError: there is not enough memory to make it.
    """
    require_memory(2 * snippets * channels, f"a random video of {snippets:,} snippets", "measure shorter videos")
    generator = np.random.default_rng([seed, snippets])
    direction = generator.standard_normal((1, channels))
    features = np.empty((snippets, channels), np.float16)
    for start in range(0, snippets, _BLOCK):
        noise = generator.standard_normal((min(_BLOCK, snippets - start), channels)) + direction
        features[start : start + _BLOCK] = noise / np.linalg.norm(noise, axis=1, keepdims=True) * CLIP_NORM
    path = folder / "random.npy"
    _save(path, features)
    videos = MeasuredVideos(files={"random": path}, snippets={"random": snippets})
    return Footage(videos=videos, timed=("random",), evaluation=None)


def joined_footage(
    pieces: MeasuredVideos, evaluation: Evaluation | None, snippets: int, channels: int, *, seed: int, folder: Path
) -> Footage:
    """Join all videos, in random order, to videos of at least N snippets; what is left at the end is a shorter one.

    The annotations of each piece are moved along with it. The shorter video is evaluated, but not timed.

    Args:
        pieces: the videos to join; no piece is cut or used twice.
        evaluation: the annotations of all of them; None for no mAP.
        snippets: N
        channels: C
        seed: seed of the order.
        folder: where the joined files are written.

    Raises:
        BenchmarkError: the pieces have too few snippets, or a joined file cannot be written.
        FeatureError: a piece cannot be read.
        OutOfMemoryError: there is not enough memory to join them.
    """
    groups = group_pieces(pieces.snippets, snippets, seed=seed)
    lengths = {f"joined-{n + 1}": sum(pieces.snippets[piece] for piece in group) for n, group in enumerate(groups)}
    timed = tuple(video for video, length in lengths.items() if length >= snippets)
    if not timed:
        raise BenchmarkError(
            f"--snippets {snippets}: the {len(pieces.files)} videos of --features have {sum(lengths.values()):,} "
            "snippets altogether; measure shorter videos, give more, or leave --features out to time random ones"
        )
    files = {video: folder / f"{video}.npy" for video in lengths}
    for (video, path), group in zip(files.items(), groups, strict=True):
        needed = 2 * np.dtype(np.float16).itemsize * lengths[video] * channels  # the pieces, and all in one
        require_memory(needed, f"joining {len(group)} videos", "measure shorter videos")
        _save(path, np.concatenate([read_features(pieces.files[piece], channels) for piece in group]))
    joined_pieces = dict(zip(files, groups, strict=True))
    joined = evaluation and _join_annotations(evaluation, joined_pieces, pieces.snippets)
    return Footage(
        videos=MeasuredVideos(files=files, snippets=lengths), timed=timed, evaluation=joined, pieces=joined_pieces
    )


def group_pieces(snippets: Mapping[str, int], wanted: int, *, seed: int) -> list[tuple[str, ...]]:
    """Decide which videos are joined, and in which order.

    Args:
        snippets: of each piece, by id.
        wanted: a joined video is complete when it has so many snippets.
        seed: seed of the order, which does not depend on ``wanted``.

    Returns:
        Each piece once. All groups but the last have at least the wanted snippets.
    """
    groups: list[tuple[str, ...]] = []
    group: list[str] = []
    missing = wanted
    for piece in random.Random(seed).sample(list(snippets), len(snippets)):
        group.append(piece)
        missing -= snippets[piece]
        if missing <= 0:
            groups.append(tuple(group))
            group, missing = [], wanted
    return [*groups, tuple(group)] if group else groups


def keep_annotated(videos: MeasuredVideos, evaluation: Evaluation) -> tuple[MeasuredVideos, Evaluation]:
    """Keep the videos that have both features and annotations, because no other can be joined and evaluated."""
    known = evaluation.durations_s.keys()
    unknown = {path.name: "not annotated" for video, path in videos.files.items() if video not in known}
    files = {video: path for video, path in videos.files.items() if video in known}
    truth = replace(evaluation.truth, videos={video: evaluation.truth.videos[video] for video in known})
    kept = replace(videos, files=files, snippets={video: videos.snippets[video] for video in files})
    return replace(kept, left_out={**videos.left_out, **unknown}), replace(evaluation, truth=truth)


def join_detections(
    found: Mapping[str, Sequence[Detection]],
    pieces: Mapping[str, Sequence[str]],
    snippets: Mapping[str, int],
    evaluation: Evaluation,
) -> dict[str, list[Detection]]:
    """Move what was found in each video alone to where that video is in a joined one.

    Its mAP stays the same, but it can be compared with what was found in the joined videos, video by video.

    Args:
        found: detections of the pieces, in seconds.
        pieces: ids of the pieces of each joined video, in order.
        snippets: of each piece.
        evaluation: annotations of the pieces, which have their durations.

    Returns:
        Detections of each joined video, in snippets.
    """
    return {
        video: [
            Detection(label, start + scale * start_s, start + scale * end_s, score)
            for piece, start, scale in _places(parts, snippets, evaluation)
            for label, start_s, end_s, score in found.get(piece, ())
        ]
        for video, parts in pieces.items()
    }


def _join_annotations(
    evaluation: Evaluation, groups: Mapping[str, Sequence[str]], snippets: Mapping[str, int]
) -> Evaluation:
    """Annotations of joined videos in snippets, from those of their pieces in seconds."""
    videos: dict[str, AnnotatedVideo] = {}
    for video, pieces in groups.items():
        rows = [
            Annotation(label, start + scale * start_s, start + scale * end_s)
            for piece, start, scale in _places(pieces, snippets, evaluation)
            for label, start_s, end_s in evaluation.truth.videos[piece].annotations
        ]
        length = sum(snippets[piece] for piece in pieces)
        videos[video] = AnnotatedVideo(duration_s=float(length), annotations=tuple(rows))
    durations = {video: known.duration_s for video, known in videos.items() if known.duration_s is not None}
    return Evaluation(truth=GroundTruth(videos=videos), durations_s=durations)


def _places(
    pieces: Sequence[str], snippets: Mapping[str, int], evaluation: Evaluation
) -> Iterator[tuple[str, int, float]]:
    """Each piece of a joined video, the snippet at which it begins, and its snippets a second."""
    start = 0
    for piece in pieces:
        yield piece, start, snippets[piece] / evaluation.durations_s[piece]
        start += snippets[piece]


def _save(path: Path, features: FloatArray) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        np.save(path, features)
    except OSError as problem:
        raise BenchmarkError(
            f"{path}: {reason(problem)}, expected room for {features.nbytes / 1e6:,.0f} MB; measure shorter videos, or "
            "name another folder for temporary files in TMPDIR"
        ) from problem
