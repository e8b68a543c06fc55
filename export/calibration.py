"""Calibration: measuring the ranges of the deployed graph's activations on training videos."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stale_export.graph_builder import serialize
from stale_export.graph_runner import Features, run_on_video
from stale_export.localizer_graph import localizer_model, watched_name
from stale_export.say import Say
from stale_export.schemes import StaticScheme
from stale_export.stages import Watch, unwatched
from stale_model import Stale
from stale_model.data.dataset import rank
from stale_runtime.bundle import layout
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.errors import DatasetError, FeatureError, QuantizationError
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.feature_folder import feature_files
from stale_runtime.inputs.feature_statistics import FeatureStatistics, FeatureSummary, summarise_features
from stale_runtime.inputs.features import resample
from stale_runtime.system.cpus import available_threads

NO_DURATIONS: Mapping[str, float] = {}
TAILS = {"minmax": 0.0, "percentile 99.999": 1e-5, "percentile 99.99": 1e-4, "percentile 99.9": 1e-3}
"""Methods of choosing a range, and the share of the values that each leaves out at either end."""
CALIBRATED = ("masks.hidden", "adaptation.output")
"""The layers whose ranges can be calibrated: a LayerNorm before them keeps every video within the same range."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Videos to calibrate on."""

    features: Mapping[str, Features]
    """(T, C), resampled, by video id."""
    seed: int
    """The seed that the videos were drawn with."""
    summaries: Mapping[str, FeatureSummary] = field(default_factory=dict)
    """What the features of each video look like before they are resampled, by id."""

    durations_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds that videos last, by id, as far as they are known."""
    originals: Mapping[str, Features] = field(default_factory=dict)
    """(S, C) as they were read, of at most ``layout.LONGEST`` snippets, by video id; empty if that is not known."""

    @property
    def statistics(self) -> FeatureStatistics | None:
        """What the features of all videos look like; None if they are zeros."""
        known = self.durations_s.keys() & self.summaries.keys()
        spacings_s = [self.durations_s[video] / self.summaries[video].snippets for video in known]
        return FeatureStatistics.over(list(self.summaries.values()), spacings_s=spacings_s)

    @property
    def norm(self) -> float:
        """Euclidean length of a snippet's features, the median over all snippets."""
        return float(np.median(np.concatenate([np.linalg.norm(video, axis=1) for video in self.features.values()])))


def read_calibration(
    folder: Path,
    *,
    count: int,
    seed: int,
    channels: int,
    length: int,
    unwanted: Collection[str],
    durations_s: Mapping[str, float] = NO_DURATIONS,
    say: Say,
) -> Calibration:
    """Draw videos from a folder of training features.

    Args:
        folder: contains ``.npy`` files.
        count: most videos to take.
        seed: decides which videos are taken.
        channels: C
        length: T to resample them to.
        durations_s: seconds that videos last, by id; others than those of the folder do not matter.
        unwanted: ids of the videos that the graph will be validated on; the folder must not contain any of them.
        say: called for each unusable file, in whose place another video is taken, and if other files are ignored.

    Raises:
        DatasetError: the folder contains a video of the validation, or no usable file.
        FeatureError: the folder cannot be read, or contains no ``.npy`` file.
    """
    paths = feature_files(folder, option="--calibration", say=say)
    if leaked := sorted(paths.keys() & set(unwanted)):
        raise DatasetError(
            f"--calibration {folder}: contains {len(leaked)} of the validation videos, the first is {leaked[0]}; "
            "calibrate on training videos only, otherwise the validation proves nothing"
        )
    features: dict[str, Features] = {}
    originals: dict[str, Features] = {}
    summaries: dict[str, FeatureSummary] = {}
    broken: list[FeatureError] = []
    for video in sorted(paths, key=lambda video: rank(video, seed)):
        if len(features) == count:
            break
        try:
            found = read_features(paths[video], channels)
            features[video] = resample(found, length)
            originals[video] = resample(found, min(len(found), layout.LONGEST))
            summary = summarise_features(found)
            if summary is not None:
                summaries[video] = summary
        except FeatureError as problem:
            broken.append(problem)
            say(f"left out: {problem}")
    if not features:
        got = str(broken[0]) if broken else "no .npy files"
        raise DatasetError(f"--calibration {folder}: no usable file ({got}); give a folder of training features")
    return Calibration(features=features, originals=originals, seed=seed, summaries=summaries, durations_s=durations_s)


class Activations:
    """The inputs of each layer of ``CALIBRATED`` in the deployed graph, collected over all calibration videos."""

    def __init__(
        self, network: Stale, calibration: Calibration, prompts: EncodedPrompts, *, watch: Watch = unwatched
    ) -> None:
        """Run the float graph on every video, which ``watch`` shows.

        Raises:
            QuantizationError: a layer's input is not finite.
        """
        session = open_session(
            serialize(localizer_model(network, watch=True)), name="calibration", threads=available_threads()
        )
        names = [watched_name(linear) for linear in CALIBRATED]
        collected: list[list[Features]] = [[] for _ in CALIBRATED]
        for features in watch(calibration.features.values(), "video"):
            for parts, found in zip(collected, run_on_video(session, features, prompts, names), strict=True):
                parts.append(found.ravel())
        self._values = {linear: np.concatenate(parts) for linear, parts in zip(CALIBRATED, collected, strict=True)}
        for linear, values in self._values.items():
            if not np.isfinite(values).all():
                raise QuantizationError(
                    f"{linear}: NaN or infinite activations on the calibration videos, expected finite ones; is the "
                    "checkpoint damaged?"
                )

    def schemes(self, method: str, weight_bits: int) -> dict[str, StaticScheme]:
        """The quantization of each layer of ``CALIBRATED``, with the ranges that a method of ``TAILS`` gives."""
        tail = TAILS[method]
        schemes = {}
        for linear, values in self._values.items():
            low, high = np.quantile(values, [tail, 1 - tail])
            schemes[linear] = StaticScheme.over(float(low), float(high), weight_bits)
        return schemes


def logit_errors(
    models: Sequence[bytes], reference: bytes, videos: Sequence[Features], prompts: EncodedPrompts
) -> Iterator[float]:
    """Root mean square error of each graph's class activations against a reference graph's, the median over videos.

    A snippet near the masking threshold may be kept by one graph and dropped by the other, which causes a large error
    that has nothing to do with the ranges. The median ignores such videos.
    """
    threads = available_threads()
    exact = open_session(reference, name="reference", threads=threads)
    expected = [run_on_video(exact, features, prompts, [layout.CAS_LOGITS])[0] for features in videos]
    for model in models:
        session = open_session(model, name="candidate", threads=threads)
        squares = [
            float(((run_on_video(session, features, prompts, [layout.CAS_LOGITS])[0] - logits) ** 2).mean())
            for features, logits in zip(videos, expected, strict=True)
        ]
        yield float(np.sqrt(np.median(squares)))
