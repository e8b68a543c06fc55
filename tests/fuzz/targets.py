"""Every reader of untrusted bytes, by name."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from tests.fuzz.target import Target

TARGETS: Mapping[str, str] = {
    "npy": "tests.fuzz.readers:npy",
    "npz": "tests.fuzz.readers:npz",
    "npy stream": "tests.fuzz.readers:npy_stream",
    "prompts": "tests.fuzz.readers:prompts",
    "recipe": "tests.fuzz.readers:recipe_target",
    "feature-origin": "tests.fuzz.readers:origin_target",
    "video": "tests.fuzz.video_files:video_target",
    "splits": "tests.fuzz.readers:splits",
    "train-ids": "tests.fuzz.readers:train_ids",
    "truth": "tests.fuzz.readers:truth",
    "durations-csv": "tests.fuzz.readers:durations_csv",
    "durations-json": "tests.fuzz.readers:durations_json",
    "results": "tests.fuzz.readers:results",
    "results-text": "tests.fuzz.readers:text_results_target",
    "class-file": "tests.fuzz.readers:class_file_target",
    "class-numbers": "tests.fuzz.readers:class_numbers",
    "video-info": "tests.fuzz.readers:video_info",
    "benchmark": "tests.fuzz.readers:benchmark",
    "labels": "tests.fuzz.readers:labels",
    "shard": "tests.fuzz.shard_files:lines_target",
    "parquet": "tests.fuzz.shard_files:parquet_target",
    "journal": "tests.fuzz.readers:journal",
    "prompt-cache": "tests.fuzz.readers:prompt_cache",
    "manifest": "tests.fuzz.readers:manifest",
    "bundle": "tests.fuzz.bundles:folder_target",
    "prompts-archive": "tests.fuzz.bundles:prompts_target",
    "self-test-archive": "tests.fuzz.bundles:self_test_target",
    "tokenizer": "tests.fuzz.bundles:tokenizer_target",
    "graph": "tests.fuzz.bundles:graph_target",
    "signature": "tests.fuzz.bundles:signature_target",
    "checkpoint": "tests.fuzz.checkpoints:checkpoint_target",
    "clip": "tests.fuzz.checkpoints:clip_target",
    "vision-tower": "tests.fuzz.checkpoints:vision_target",
}
"""The function that makes each target, as ``module:function``, so that PyTorch and ONNX load only where needed."""


def find_target(name: str) -> Callable[[Path], Target]:
    """The function that makes a target in a given folder, by a name of ``TARGETS`` or as ``module:function``."""
    module, _, function = TARGETS.get(name, name).partition(":")
    found: Callable[[Path], Target] = getattr(import_module(module), function)
    return found
