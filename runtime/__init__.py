"""The runtime of stale-edge: from snippet features and class names to detections, on a CPU, without PyTorch.

::

    localizer = Localizer.open("stale_bundle")
    prompts = localizer.encode_prompts(["Long jump", "Archery"])
    video = localizer.detect(features, prompts, duration_s=48.9)
"""

import os
from typing import TYPE_CHECKING

from stale_runtime.lazy import lazily
from stale_runtime.version import __version__

if TYPE_CHECKING:
    from stale_runtime.bundle import Bundle, find_bundle
    from stale_runtime.detections import Detection, VideoDetections
    from stale_runtime.errors import StaleError
    from stale_runtime.evaluation import MeanAveragePrecision, mean_average_precision
    from stale_runtime.features import read_features
    from stale_runtime.ground_truth import GroundTruth, read_ground_truth
    from stale_runtime.localizer import EncodedPrompts, Localizer, Outcome, Outputs, Settings
    from stale_runtime.prompts import Prompts, read_prompts
    from stale_runtime.results import read_results
    from stale_runtime.timeline import Timeline

# ONNX Runtime, which we load late, reports what it runs to its makers (1.29 and newer), unless told not to beforehand.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Bundle",
    "Detection",
    "EncodedPrompts",
    "GroundTruth",
    "Localizer",
    "MeanAveragePrecision",
    "Outcome",
    "Outputs",
    "Prompts",
    "Settings",
    "StaleError",
    "Timeline",
    "VideoDetections",
    "__version__",
    "find_bundle",
    "mean_average_precision",
    "read_features",
    "read_ground_truth",
    "read_prompts",
    "read_results",
]

__getattr__ = lazily(
    __name__,
    {
        "Bundle": "bundle",
        "Detection": "detections",
        "EncodedPrompts": "localizer",
        "GroundTruth": "ground_truth",
        "Localizer": "localizer",
        "MeanAveragePrecision": "evaluation",
        "Outcome": "localizer",
        "Outputs": "localizer",
        "Prompts": "prompts",
        "Settings": "localizer",
        "StaleError": "errors",
        "Timeline": "timeline",
        "VideoDetections": "detections",
        "find_bundle": "bundle",
        "mean_average_precision": "evaluation",
        "read_features": "features",
        "read_ground_truth": "ground_truth",
        "read_prompts": "prompts",
        "read_results": "results",
    },
)
