"""The limit on the mAP that an int8 localizer may lose, measured on annotated videos."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stale_export.graph_runner import Features, localize_video
from stale_export.stages import Watch, unwatched
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.decoding.decoders import DEFAULT_DECODER, decode_detections
from stale_runtime.detections import Detection
from stale_runtime.errors import DatasetError, QuantizationError
from stale_runtime.evaluation.ground_truth import GroundTruth, read_ground_truth
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from stale_runtime.evaluation.video_info import read_video_info
from stale_runtime.inference.forward_pass import EncodedPrompts, Outputs
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.feature_folder import feature_files
from stale_runtime.inputs.features import resample_for_graph
from stale_runtime.system.cpus import available_threads

RunVideo = Callable[[Features], Outputs]
"""Features (S, C) of one video -> class activations (K+1, T) and action masks."""
Found = Mapping[str, Sequence[Detection]]
"""Detections by video id, in seconds."""


@dataclass(frozen=True, kw_only=True)
class ValidationVideos:
    """Annotated videos with their features."""

    truth: GroundTruth
    """The annotations of these videos only, in the order of their file, which the published mAP depends on."""
    features: Mapping[str, Features]
    """(S, C) by video id, in the order of the files' names, as in stale-run's results.

    As there, videos of few snippets are resampled by the graph, which computes what it can before that."""
    length: int
    """T that they are resampled to."""


@dataclass(frozen=True, kw_only=True)
class MapGate:
    """Measures the mAP of a localizer, and decides whether int8 loses too much of it."""

    videos: ValidationVideos
    prompts: EncodedPrompts
    """Class names that the localizer looks for."""
    max_drop: float
    """Largest loss of mAP against float, in percent of mAP."""
    watch: Watch = unwatched
    """Shows how many videos a graph was measured on."""

    def measure(self, model: bytes) -> float:
        """Average mAP over tIoU 0.5:0.05:0.95 of a localizer graph, in percent, as stale-eval's default."""
        return self.score(self.find(model))

    def find(self, model: bytes) -> Found:
        """What a localizer graph finds in the videos, with the default decoder."""
        session = open_session(model, name="localizer", threads=available_threads())
        return self.find_with(partial(localize_video, session, prompts=self.prompts, length=self.videos.length))

    def find_with(self, run: RunVideo) -> Found:
        """Like ``find``, for any function that computes the outputs of a video."""
        found = {}
        for video, features in self.watch(self.videos.features.items(), "video"):
            cas_logits, masks, _ = run(features)
            duration_s = self.videos.truth.videos[video].duration_s
            found[video] = decode_detections(DEFAULT_DECODER, cas_logits, masks, self.prompts.names, duration_s)
        return found

    def score(self, found: Found) -> float:
        """Average mAP of what ``find`` returned, in percent."""
        return 100 * mean_average_precision(found, self.videos.truth).average

    def accepts(self, score: float, exact: float) -> bool:
        """Whether mAP in int8 is close enough to mAP in float, both in percent; False if either is NaN."""
        return exact - score <= self.max_drop

    def require_meaning(self, file: str, exact: float) -> None:
        """Make sure that the videos can tell a good graph from one that finds nothing.

        Args:
            file: the graph that is to be checked, for messages.
            exact: mAP in float, in percent.

        Raises:
            QuantizationError: they cannot.
        """
        if not exact > self.max_drop:
            raise QuantizationError(
                f"{file}: mAP {exact:.2f} in float; even a graph that finds nothing would lose no more than the "
                f"allowed {self.max_drop}, so the check proves nothing; do the videos, features and class names belong "
                "to this network? Nothing was written"
            )


def read_validation(
    annotations: Path,
    folder: Path,
    *,
    subset: str,
    video_info: Path | None = None,
    channels: int,
    length: int,
    say: Callable[[str], object] | None = None,
) -> ValidationVideos:
    """Read annotated videos and their features.

    Args:
        annotations: see ``read_ground_truth``.
        folder: contains ``.npy`` files; a video without one is left out.
        subset: subset of the annotations.
        video_info: file with subset and duration of each video, see ``read_video_info``; None if the annotations have
            them.
        channels: C
        length: T to resample to.
        say: called with one line if the folder contains other files.

    Raises:
        DatasetError: the annotations cannot be read, no annotated video has features, or one has no duration.
        FeatureError: the folder or a feature file cannot be used.
    """
    truth = read_truth(annotations, subset=subset, video_info=video_info)
    paths = feature_files(folder, option="--validation-features", say=say)
    known = keep_videos(truth, paths)
    if not known.labels:
        raise DatasetError(
            f"--validation-features {folder}: {len(paths)} files, none of them of an annotated video of {annotations}, "
            f"subset {subset}; expected files such as v_{next(iter(truth.videos))}.npy"
        )
    for name, video in known.videos.items():
        if video.duration_s is None or not video.duration_s > 0:
            raise DatasetError(
                f"{annotations}: video {name!r} has no duration, which mAP needs; give --video-info FILE"
            )
    return ValidationVideos(
        truth=known,
        features={
            name: resample_for_graph(read_features(path, channels), length)
            for name, path in paths.items()
            if name in known.videos
        },
        length=length,
    )


def read_truth(annotations: Path, *, subset: str, video_info: Path | None) -> GroundTruth:
    """Read the annotations that mAP is measured with, see ``read_validation``.

    Raises:
        DatasetError: they cannot be read.
    """
    info = read_video_info(video_info) if video_info is not None else None
    return read_ground_truth(annotations, subset=subset, video_info=info)


def keep_videos(truth: GroundTruth, wanted: Collection[str]) -> GroundTruth:
    """The annotations of some videos only, by their ids, in the order of the annotations."""
    return GroundTruth(videos={name: video for name, video in truth.videos.items() if name in wanted})
