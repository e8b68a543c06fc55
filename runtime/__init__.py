"""The runtime of stale-edge: from snippet features and class names to detections, on a CPU, without PyTorch.

::

    localizer = Localizer.open("stale_bundle")
    prompts = localizer.encode_prompts(["Long jump", "Archery"])
    video = localizer.detect_file("video_feats.npy", prompts, timeline=Timeline(duration_s=48.9))
    for label, start, end, score in video.top(10):
        print(label, start, end, score)
"""

import os
from typing import TYPE_CHECKING

from stale_runtime._lazy import lazily
from stale_runtime.version import __version__

if TYPE_CHECKING:
    from stale_runtime.bundle.bundle import Bundle, find_bundle
    from stale_runtime.detections import Detection, VideoDetections
    from stale_runtime.errors import StaleError
    from stale_runtime.evaluation.ground_truth import GroundTruth, read_ground_truth
    from stale_runtime.evaluation.mean_average_precision import MeanAveragePrecision, mean_average_precision
    from stale_runtime.evaluation.results import read_results
    from stale_runtime.evaluation.thumos14 import read_class_numbers
    from stale_runtime.evaluation.video_info import VideoInfo, read_video_info
    from stale_runtime.evidence import ClassScores, Evidence, PosterFrame
    from stale_runtime.inference.detection_stream import DetectionStream
    from stale_runtime.inference.forward_pass import EncodedPrompts, Outputs
    from stale_runtime.inference.localizer import Localizer
    from stale_runtime.inference.outcome import Outcome
    from stale_runtime.inference.settings import Settings
    from stale_runtime.inputs.feature_file import read_features
    from stale_runtime.inputs.prompts import Prompts, read_prompts
    from stale_runtime.inputs.recipe import FeatureRecipe, clip_recipe, read_recipe
    from stale_runtime.inputs.timeline import Timeline
    from stale_runtime.inputs.videos import is_video
    from stale_runtime.page.page_folder import relative_url
    from stale_runtime.page.video_page import PageSettings, video_page
    from stale_runtime.video.video_properties import VideoProperties
    from stale_runtime.video.video_reader import VideoFrames, probe_video, read_video

# ONNX Runtime 1.29 and newer reports usage to its makers unless this is set before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Bundle",
    "ClassScores",
    "Detection",
    "DetectionStream",
    "EncodedPrompts",
    "Evidence",
    "FeatureRecipe",
    "GroundTruth",
    "Localizer",
    "MeanAveragePrecision",
    "Outcome",
    "Outputs",
    "PageSettings",
    "PosterFrame",
    "Prompts",
    "Settings",
    "StaleError",
    "Timeline",
    "VideoDetections",
    "VideoFrames",
    "VideoInfo",
    "VideoProperties",
    "__version__",
    "clip_recipe",
    "find_bundle",
    "is_video",
    "mean_average_precision",
    "probe_video",
    "read_class_numbers",
    "read_features",
    "read_ground_truth",
    "read_prompts",
    "read_recipe",
    "read_results",
    "read_video",
    "read_video_info",
    "relative_url",
    "video_page",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Bundle": "bundle.bundle",
        "ClassScores": "evidence",
        "Evidence": "evidence",
        "PosterFrame": "evidence",
        "Detection": "detections",
        "DetectionStream": "inference.detection_stream",
        "EncodedPrompts": "inference.forward_pass",
        "GroundTruth": "evaluation.ground_truth",
        "Localizer": "inference.localizer",
        "MeanAveragePrecision": "evaluation.mean_average_precision",
        "Outcome": "inference.outcome",
        "Outputs": "inference.forward_pass",
        "PageSettings": "page.video_page",
        "Prompts": "inputs.prompts",
        "Settings": "inference.settings",
        "StaleError": "errors",
        "Timeline": "inputs.timeline",
        "VideoDetections": "detections",
        "FeatureRecipe": "inputs.recipe",
        "VideoFrames": "video.video_reader",
        "clip_recipe": "inputs.recipe",
        "read_recipe": "inputs.recipe",
        "VideoInfo": "evaluation.video_info",
        "VideoProperties": "video.video_properties",
        "find_bundle": "bundle.bundle",
        "is_video": "inputs.videos",
        "mean_average_precision": "evaluation.mean_average_precision",
        "probe_video": "video.video_reader",
        "read_class_numbers": "evaluation.thumos14",
        "read_features": "inputs.feature_file",
        "read_ground_truth": "evaluation.ground_truth",
        "read_prompts": "inputs.prompts",
        "read_results": "evaluation.results",
        "read_video": "video.video_reader",
        "read_video_info": "evaluation.video_info",
        "relative_url": "page.page_folder",
        "video_page": "page.video_page",
    },
)
