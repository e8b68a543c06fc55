"""The videos, prompts and annotations that backends are measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stale_bench.protocol import Job
from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import pack_arrays, unpack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BundleError, DatasetError, FeatureError
from stale_runtime.evaluation.ground_truth import GroundTruth, read_ground_truth
from stale_runtime.inference.localizer import EncodedPrompts
from stale_runtime.inputs.features import CLIP_NORM, read_features
from stale_runtime.inputs.prompts import Prompts, read_prompts
from stale_runtime.inputs.videos import video_id
from stale_runtime.segments import FloatArray

ENCODED_NAME = "encoded.npz"
RANDOM_SNIPPETS = 1.5
"""A random video has this many times the snippets that it is resampled to."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What mAP is computed on."""

    truth: GroundTruth
    videos: Mapping[Path, float]
    """Feature files and the seconds that their videos last."""


def video_features(job: Job, channels: int) -> FloatArray:
    """The video that a worker is timed on: (T0, C).

    Raises:
        FeatureError: its file cannot be used.
    """
    if job.features is not None:
        return read_features(Path(job.features), channels)
    return random_features(round(RANDOM_SNIPPETS * job.length), channels, job.seed)


def random_features(snippets: int, channels: int, seed: int) -> FloatArray:
    """A video of noise around one random direction, as long as CLIP's features: (snippets, channels)."""
    generator = np.random.default_rng([seed, snippets])
    noise = generator.standard_normal((snippets, channels)) + generator.standard_normal((1, channels))
    features: FloatArray = (noise / np.linalg.norm(noise, axis=1, keepdims=True) * CLIP_NORM).astype(np.float32)
    return features


def read_classes(bundle: Bundle, prompts: Path | None) -> Prompts:
    """The classes to look for: those of a prompt file, else those whose embeddings the bundle carries.

    Raises:
        PromptError: the file cannot be used.
        BundleError: the bundle carries none.
    """
    if prompts is not None:
        return read_prompts(prompts)
    texts = unpack_arrays(bundle.read(layout.PROMPTS), layout.PROMPTS).get("texts")
    before, _, after = bundle.manifest.text_encoder.prompt_template.partition("{}")
    if texts is None or texts.ndim != 1 or texts.dtype.kind != "U" or not len(texts):
        raise BundleError(f"{layout.PROMPTS}: holds no prompts; give --prompts FILE, or export the bundle again")
    names = [text.removeprefix(before).removesuffix(after) for text in texts.tolist()]
    return Prompts.of(names)


def write_encoded(folder: Path, prompts: EncodedPrompts) -> None:
    """Keep encoded prompts for workers that do not encode any."""
    arrays = {"names": np.array(prompts.names), "embeddings": prompts.embeddings, "queries": prompts.queries}
    (folder / ENCODED_NAME).write_bytes(pack_arrays(arrays))


def read_encoded(folder: Path) -> EncodedPrompts:
    """What ``write_encoded`` kept."""
    arrays = unpack_arrays((folder / ENCODED_NAME).read_bytes(), ENCODED_NAME)
    return EncodedPrompts(tuple(arrays["names"].tolist()), arrays["embeddings"], arrays["queries"])


def feature_files(folder: Path, channels: int) -> tuple[Path, ...]:
    """The feature files of a folder, each read and checked, sorted by name.

    Raises:
        FeatureError: there are none, or one cannot be used.
    """
    if not folder.is_dir():
        raise FeatureError(f"--features {folder}: no such folder; give one of .npy files")
    paths = tuple(sorted(folder.glob("*.npy")))
    if not paths:
        raise FeatureError(f"--features {folder}: no .npy files in this folder")
    for path in paths:
        read_features(path, channels)
    return paths


def read_evaluation(ground_truth: Path, subset: str | None, files: Sequence[Path]) -> Evaluation:
    """Annotations, and the feature files of their videos.

    Raises:
        DatasetError: the annotations cannot be used, share no video with the features, or lack a duration.
    """
    truth = read_ground_truth(ground_truth, subset=subset)
    if not any(video.annotations for video in truth.videos.values()):
        raise DatasetError(f"{ground_truth}: no annotation in this subset; check --subset")
    videos: dict[Path, float] = {}
    for path in files:
        known = truth.videos.get(video_id(path.stem))
        if known is None:
            continue
        if known.duration_s is None or not known.duration_s > 0:
            raise DatasetError(f"{ground_truth}: video {video_id(path.stem)!r} has no duration, which mAP needs")
        videos[path] = known.duration_s
    if not videos:
        raise DatasetError(
            f"{ground_truth}: no video in common with --features {files[0].parent}; check ids and --subset"
        )
    return Evaluation(truth=truth, videos=videos)
