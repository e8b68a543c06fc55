"""What an int8 vision tower costs in mAP, measured on annotated videos that are embedded with it and in float."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stale_export.graph_runner import Features
from stale_export.say import Say
from stale_export.stages import Stages
from stale_export.validation_gate import MapGate, ValidationVideos, keep_videos, read_truth
from stale_export.validation_record import record_map_change
from stale_export.vision_export import ExportedVision
from stale_runtime.bundle import layout
from stale_runtime.errors import DatasetError, FeatureError, RecipeError, StaleError, VideoError
from stale_runtime.evaluation.ground_truth import GroundTruth
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inputs.feature_folder import paths_by_id, video_files
from stale_runtime.inputs.features import check_features, resample_for_graph, rows_read
from stale_runtime.system.cpus import available_threads
from stale_runtime.video.video_reader import probe_video, read_video, require_video_reader
from stale_runtime.video.vision_encoder import VisionEncoder, average_frames

OPTION = "--validate-videos"
_TOLERANCE_S, _TOLERANCE = 2.0, 0.05
"""Seconds, and part of its length, by which a video may be longer or shorter than annotated. Copies differ by less."""


@dataclass(frozen=True, kw_only=True)
class AnnotatedFootage:
    """Annotated videos with their files."""

    folder: Path
    truth: GroundTruth
    """The annotations of these videos only."""
    paths: Mapping[str, Path]
    """Files by video id, in the order of their names."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedFootage:
    """The same annotated videos with the features of both towers."""

    in_float: ValidationVideos
    in_int8: ValidationVideos | None
    """None if there is no int8 tower."""


def find_footage(
    annotations: Path, folder: Path, *, subset: str, video_info: Path | None, classes: Collection[str], say: Say
) -> AnnotatedFootage:
    """Find the files of annotated videos, without opening them; a video without a file is left out.

    Args:
        annotations: see ``read_ground_truth``.
        folder: contains a video file for each video.
        subset: subset of the annotations.
        video_info: file with the subset of each video, see ``read_video_info``; None if the annotations have it.
        classes: names that will be looked for.
        say: called with the number of videos, and if other files are ignored.

    Raises:
        DatasetError: the annotations cannot be read, no annotated video has a file, or those that have show none of the
            classes.
        FeatureError: the folder cannot be read, has no videos, or two of one id.
        MissingPackageError: the extra ``video`` is not installed.
    """
    require_video_reader()
    found = paths_by_id(video_files(folder, features=False, option=OPTION, say=say))
    truth = read_truth(annotations, subset=subset, video_info=video_info)
    known = keep_videos(truth, found).spelt_like(classes)
    if not known.labels:
        raise DatasetError(
            f"{OPTION} {folder}: {len(found)} videos, none of them an annotated one of {annotations}, subset {subset}; "
            f"expected files such as v_{next(iter(truth.videos))}.mp4"
        )
    if not set(known.labels) & set(classes):
        raise DatasetError(
            f"{OPTION} {folder}: its {len(known.videos):,} annotated videos are of other classes, such as "
            f"{known.labels[0]!r}, than the {len(classes):,} that are looked for; give the annotated ones by --classes"
        )
    say(f"{OPTION} {folder}: {len(known.videos):,} of the {len(truth.videos):,} annotated videos are there")
    paths = {name: path for name, path in found.items() if name in known.videos}
    return AnnotatedFootage(folder=folder, truth=known, paths=paths)


def embed_footage(
    footage: AnnotatedFootage, tower: ExportedVision, *, channels: int, length: int, say: Say, stages: Stages
) -> EmbeddedFootage:
    """Embed videos with the float tower and the int8 one. Each is decoded once; one that cannot be is left out.

    Args:
        footage: the videos.
        tower: both towers, or the float one alone.
        channels: C
        length: T that the localizer gets.
        say: called with problems, and at the end with how long it took.
        stages: shows how many videos are done.

    Raises:
        RecipeError: the tower's recipe does not say all that is needed.
        DatasetError: no annotated video can be decoded.
    """
    if missing := tower.spec.recipe.missing:
        raise RecipeError(
            f"{OPTION}: {', '.join(missing)} of the recipe unknown, but features of videos are computed by it; give "
            "--recipe FILE"
        )
    names = [name for name in layout.VISION_ENCODERS if name in tower.files]
    encoders = [
        VisionEncoder(tower.files[name], tower.spec, channels=channels, name=name, threads=available_threads())
        for name in names
    ]
    towers = "the float tower and the int8 one" if len(names) > 1 else "the float tower"
    stages.enter(f"embedding {len(footage.paths):,} validation videos with {towers}")
    done: dict[str, _Embedded] = {}
    problems: list[StaleError] = []
    started_s = time.perf_counter()
    for video, path in stages.watch(footage.paths.items(), "video"):
        try:
            done[video] = _embed_video(path, encoders, length, say)
        except (VideoError, FeatureError) as problem:
            problems.append(problem)
            say(f"left out: {problem}")
    truth = _with_durations(footage, {video: found.duration_s for video, found in done.items()}, say)
    if not truth.labels:
        raise DatasetError(
            f"{OPTION} {footage.folder}: no annotated video can be used ({problems[0]}); give videos that can be read"
        )
    video_s, elapsed_s = sum(found.duration_s for found in done.values()), time.perf_counter() - started_s
    say(
        f"embedded {len(done):,} of {len(footage.paths):,} validation videos, {video_s:,.1f} s, in {elapsed_s:,.1f} s: "
        f"{video_s / elapsed_s:.1f} times real time"
    )
    found = [
        ValidationVideos(truth=truth, features={video: done[video].features[n] for video in done}, length=length)
        for n in range(len(names))
    ]
    return EmbeddedFootage(in_float=found[0], in_int8=found[1] if len(found) > 1 else None)


def validate_vision(
    tower: ExportedVision,
    footage: EmbeddedFootage,
    localizer: bytes,
    *,
    prompts: EncodedPrompts,
    max_drop: float,
    say: Say,
    stages: Stages,
) -> ExportedVision:
    """Measure the mAP that a localizer in float reaches with features of either tower, and judge the int8 one by it.

    Args:
        tower: both towers.
        footage: annotated videos, embedded with them.
        localizer: the float localizer's graph.
        prompts: class names to look for.
        max_drop: most points of mAP that int8 may lose.
        say: called with the result.
        stages: shows how many videos a tower was measured on.

    Returns:
        The tower with the mAP in its record; without the int8 one if that loses too much.

    Raises:
        QuantizationError: mAP in float is so low that the check would prove nothing.
    """
    if footage.in_int8 is None:
        return tower
    file, count = layout.VISION_ENCODER_INT8, len(footage.in_float.features)
    stages.enter("validating the vision tower")
    gate = MapGate(videos=footage.in_float, prompts=prompts, max_drop=max_drop, watch=stages.watch)
    baseline = gate.find(localizer)
    exact = gate.score(baseline)
    gate.require_meaning(file, exact)
    found = replace(gate, videos=footage.in_int8).find(localizer)
    score = gate.score(found)
    compared = f"mAP {score:.2f} with its features of {count:,} videos against {exact:.2f} with the float tower's"
    if not gate.accepts(score, exact):
        say(
            f"warning: no {file}: {compared}, a drop of {exact - score:.3f}, expected at most {max_drop} "
            "(--max-map-drop); stale-run uses the float one"
        )
        return tower.without_int8()
    say(f"{file}: {compared}")
    records = tuple(
        record_map_change(
            replace(record, map_percent=score, fp32_map_percent=exact, validation_videos=count),
            found,
            baseline,
            gate.videos.truth,
            say=say,
        )
        if record.file == file
        else record
        for record in tower.records
    )
    return replace(tower, records=records)


class _Embedded(NamedTuple):
    """One video."""

    duration_s: float
    features: list[Features]
    """By tower, what a localizer gets of it: (S, C)."""


def _embed_video(path: Path, encoders: Sequence[VisionEncoder], length: int, say: Say) -> _Embedded:
    """Decode a video once, and embed it with every tower, as ``stale-run`` does.

    Raises:
        VideoError: it cannot be decoded.
        FeatureError: its embeddings are no features.
    """
    recipe, channels = encoders[0].recipe, encoders[0].channels
    video = probe_video(path)
    rows = rows_read(snippets := recipe.row_count(video.duration_s), length, channels)
    parts: list[list[Features]] = [[] for _ in encoders]
    with read_video(path, recipe, rows=rows) as frames:
        for images in frames:  # of whole rows
            for encoder, part in zip(encoders, parts, strict=True):
                part.append(average_frames(encoder.embed(images), recipe))
        damaged = frames.damaged_frames
    if damaged or video.missing_s:
        what = f"{damaged:,} of its frames are damaged" if damaged else f"its last {video.missing_s:.1f} s are missing"
        say(f"warning: {path}: {what}; copy it again if there is a better copy")
    features = []
    for part in parts:
        found = np.zeros((snippets, channels), np.float16)  # as in a feature file; the other rows are not read
        with np.errstate(over="ignore"):
            found[rows] = np.concatenate(part)
        features.append(resample_for_graph(check_features(found, channels, name=str(path)), length))
    return _Embedded(video.duration_s, features)


def _with_durations(footage: AnnotatedFootage, durations_s: Mapping[str, float], say: Say) -> GroundTruth:
    """The annotations of the videos that were read, which last as long as their files, as in ``stale-run``."""
    known = keep_videos(footage.truth, durations_s).videos
    others = [
        (footage.paths[video], annotated.duration_s, durations_s[video])
        for video, annotated in known.items()
        if annotated.duration_s and not _agree(annotated.duration_s, durations_s[video])
    ]
    if others:
        path, annotated_s, found_s = others[0]
        say(
            f"warning: {len(others):,} of {len(known):,} videos are not as long as annotated, the first is {path}: "
            f"{found_s:.1f} s instead of {annotated_s:.1f}; annotated actions are at other times if it was cut"
        )
    return GroundTruth(
        videos={video: replace(annotated, duration_s=durations_s[video]) for video, annotated in known.items()}
    )


def _agree(first_s: float, second_s: float) -> bool:
    return abs(first_s - second_s) <= max(_TOLERANCE_S, _TOLERANCE * first_s)
