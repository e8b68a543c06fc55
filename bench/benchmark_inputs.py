"""The videos, prompts and annotations that backends are measured on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stale_bench.protocol import BackendJob
from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import pack_arrays, unpack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BundleError, DatasetError, FeatureError
from stale_runtime.evaluation.ground_truth import GroundTruth, read_ground_truth
from stale_runtime.evaluation.video_info import read_video_info
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.feature_folder import feature_files
from stale_runtime.inputs.features import CLIP_NORM
from stale_runtime.inputs.prompts import Prompts, read_prompts
from stale_runtime.segments import FloatArray
from stale_runtime.system.text import as_text, one_line

ENCODED_NAME = "encoded.npz"
RANDOM_SNIPPETS = 1.5
"""A random video has this many times the snippets that it is resampled to."""


@dataclass(frozen=True, kw_only=True)
class MeasuredVideos:
    """The feature files that backends are timed and evaluated on."""

    files: Mapping[str, Path]
    """By video id, in order of file name."""
    snippets: Mapping[str, int] = field(default_factory=dict)
    """How many each video has, by video id."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why a file of the folder is not used, by file name."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What mAP is computed on."""

    truth: GroundTruth
    """The declared videos; one without features counts as one in which nothing was found."""
    durations_s: Mapping[str, float]
    """Seconds of each declared video that has features, by video id."""


def video_features(job: BackendJob, channels: int) -> FloatArray:
    """The video that a worker is timed on: (T0, C).

    Raises:
        FeatureError: its file cannot be used.
    """
    if job.features is not None:
        return read_features(Path(job.features), channels)
    return random_features(round(RANDOM_SNIPPETS * job.length), channels, job.seed)


def random_features(snippets: int, channels: int, seed: int) -> FloatArray:
    """A video of noise around one random direction, with the norm of CLIP's features: (snippets, channels)."""
    generator = np.random.default_rng([seed, snippets])
    noise = generator.standard_normal((snippets, channels)) + generator.standard_normal((1, channels))
    features: FloatArray = (noise / np.linalg.norm(noise, axis=1, keepdims=True) * CLIP_NORM).astype(np.float32)
    return features


def read_classes(bundle: Bundle, prompts: Path | None) -> Prompts:
    """Read the classes to look for: those of a prompt file, or else those whose embeddings are in the bundle.

    Raises:
        PromptError: the file cannot be used.
        BundleError: there are none in the bundle.
    """
    if prompts is not None:
        return read_prompts(prompts)
    texts = unpack_arrays(bundle.read(layout.PROMPTS), layout.PROMPTS).get("texts")
    before, _, after = bundle.manifest.text_encoder.prompt_template.partition("{}")
    if texts is None or texts.ndim != 1 or texts.dtype.kind != "U" or not len(texts):
        raise BundleError(f"{layout.PROMPTS}: no prompts in this bundle; give --prompts FILE")
    return Prompts.of(text.removeprefix(before).removesuffix(after) for text in texts.tolist())


def write_encoded(folder: Path, prompts: EncodedPrompts) -> None:
    """Write encoded prompts for workers that cannot encode any themselves."""
    arrays = {"names": np.array(prompts.names), "embeddings": prompts.embeddings, "queries": prompts.queries}
    (folder / ENCODED_NAME).write_bytes(pack_arrays(arrays))


def read_encoded(folder: Path) -> EncodedPrompts:
    """Read what ``write_encoded`` wrote."""
    arrays = unpack_arrays((folder / ENCODED_NAME).read_bytes(), ENCODED_NAME)
    return EncodedPrompts(tuple(arrays["names"].tolist()), arrays["embeddings"], arrays["queries"])


def read_videos(folder: Path, channels: int, *, say: Callable[[str], object] | None = None) -> MeasuredVideos:
    """List the feature files of a folder, and check each; a file that cannot be used is left out.

    Args:
        folder: contains one feature file for each video.
        channels: C
        say: called with one line if the folder contains other files.

    Raises:
        FeatureError: the folder cannot be read, or no file in it can be used.
    """
    usable: dict[str, Path] = {}
    snippets: dict[str, int] = {}
    left_out: dict[str, str] = {}
    for video, path in feature_files(folder, option="--features", say=say).items():
        try:
            snippets[video] = len(read_features(path, channels))
        except FeatureError as problem:
            left_out[one_line(as_text(path.name))] = str(problem).removeprefix(f"{path}: ")
        else:
            usable[video] = path
    if not usable:
        name, reason = next(iter(left_out.items()))
        raise FeatureError(f"--features {folder}: none of {len(left_out)} files can be used; {name}: {reason}")
    return MeasuredVideos(files=usable, snippets=snippets, left_out=left_out)


def read_evaluation(
    ground_truth: Path, subset: str | None, videos: MeasuredVideos, video_info: Path | None = None
) -> Evaluation:
    """Read annotations, and match them with the videos that have features.

    Args:
        ground_truth: annotations.
        subset: the subset of them to keep; None for all.
        videos: those that have features.
        video_info: file with the subset of each video, see ``read_video_info``; None if the annotations have subsets.

    Raises:
        DatasetError: the annotations cannot be used, have no video in common with the features, or lack a duration.
    """
    info = None if video_info is None else read_video_info(video_info)
    truth = read_ground_truth(ground_truth, subset=subset, video_info=info, option="--subset")
    if not truth.labels:
        raise DatasetError(f"{ground_truth}: no annotation in this subset; check --subset")
    durations_s: dict[str, float] = {}
    for video in videos.files:
        known = truth.videos.get(video)
        if known is None:
            continue
        if known.duration_s is None or not known.duration_s > 0:
            raise DatasetError(f"{ground_truth}: video {video!r} has no duration, which mAP needs")
        durations_s[video] = known.duration_s
    if not durations_s:
        folder = next(iter(videos.files.values())).parent
        raise DatasetError(f"{ground_truth}: no video in common with --features {folder}; check ids and --subset")
    return Evaluation(truth=truth, durations_s=durations_s)
