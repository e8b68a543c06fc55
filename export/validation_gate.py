"""mAP of a localizer on annotated videos, to hold int8 against float."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stale_export.calibration import Features, graph_inputs
from stale_runtime.decoding.decoders import DECODERS, DEFAULT_DECODER, label_segments
from stale_runtime.errors import DatasetError, QuantizationError
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, GroundTruth, read_ground_truth
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from stale_runtime.inference.localizer import EncodedPrompts
from stale_runtime.inference.onnx_session import open_session
from stale_runtime.inputs.feature_folder import feature_files
from stale_runtime.inputs.features import read_features, resample
from stale_runtime.system.cpus import available_threads


@dataclass(frozen=True, kw_only=True)
class ValidationVideos:
    """Annotated videos with their features."""

    truth: GroundTruth
    """Of these videos only."""
    features: Mapping[str, Features]
    """(T, C), resampled, by video id."""

    def measure(self, model: bytes, prompts: EncodedPrompts) -> float:
        """Average mAP over tIoU 0.5:0.05:0.95 of a localizer graph, in percent.

        Args:
            model: the graph.
            prompts: K encoded prompts.
        """
        session = open_session(model, name="localizer", threads=available_threads())

        def run(features: Features) -> tuple[Features, Features]:
            logits, masks = session.run(["cas_logits", "action_masks"], graph_inputs(features, prompts))
            return logits[0], masks[0]

        return self.measure_outputs(run, prompts)

    def measure_outputs(self, run: Callable[[Features], tuple[Features, Features]], prompts: EncodedPrompts) -> float:
        """The same for whatever turns features (T, C) into class activations (K+1, T) and action masks (T, T)."""
        found = {}
        for video, features in self.features.items():
            ranked = DECODERS[DEFAULT_DECODER](*run(features))
            found[video] = label_segments(ranked, prompts.names, self.truth.videos[video].duration_s)
        return 100 * mean_average_precision(found, self.truth, charge_foreign=False).average


def holds(score: float, exact: float, max_drop: float) -> bool:
    """Whether mAP in int8 is close enough to that in float, all in percent; never where one is NaN."""
    return exact - score <= max_drop


def require_proof(file: str, exact: float, max_drop: float) -> None:
    """Make sure that the videos can tell a good graph from one that finds nothing.

    Args:
        file: the graph that is to be proved, for messages.
        exact: mAP in float, in percent.
        max_drop: what int8 may lose of it.

    Raises:
        QuantizationError: they cannot.
    """
    if not exact > max_drop:
        raise QuantizationError(
            f"{file}: mAP {exact:.2f} in float, where even a graph that finds nothing drops by at most {max_drop}: it "
            "proves nothing; are the videos, features and class names those of the network? nothing was written"
        )


def read_validation(annotations: Path, folder: Path, *, subset: str, channels: int, length: int) -> ValidationVideos:
    """Read annotated videos and their features.

    Args:
        annotations: ActivityNet's JSON, or the original code's.
        folder: of ``.npy`` files; a video without one is left out.
        subset: of the annotations.
        channels: C
        length: T to resample to.

    Raises:
        DatasetError: either cannot be read, or they have no video in common.
        FeatureError: a feature file cannot be used.
    """
    truth = read_ground_truth(annotations, subset=subset)
    paths = feature_files(folder, option="--validation-features")
    videos: dict[str, AnnotatedVideo] = {name: truth.videos[name] for name in truth.videos if name in paths}
    if not any(known.annotations for known in videos.values()):
        raise DatasetError(
            f"--validation-features {folder}: {len(paths)} files, none of an annotated video of {annotations}, subset "
            f"{subset}; expected files such as v_{next(iter(truth.videos))}.npy"
        )
    return ValidationVideos(
        truth=GroundTruth(videos=videos),
        features={name: resample(read_features(paths[name], channels), length) for name in videos},
    )
