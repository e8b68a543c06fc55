"""Every reader of strangers' bytes, by name."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from tests.fuzz import readers
from tests.fuzz.target import Target


def _bundle(folder: Path) -> Target:
    from tests.fuzz.bundles import folder_target

    return folder_target(folder)


def _prompts_archive(folder: Path) -> Target:
    from tests.fuzz.bundles import prompts_target

    return prompts_target(folder)


def _self_test_archive(folder: Path) -> Target:
    from tests.fuzz.bundles import self_test_target

    return self_test_target(folder)


def _tokenizer(folder: Path) -> Target:
    from tests.fuzz.bundles import tokenizer_target

    return tokenizer_target(folder)


def _graph(folder: Path) -> Target:
    from tests.fuzz.bundles import graph_target

    return graph_target(folder)


def _checkpoint(folder: Path) -> Target:
    from tests.fuzz.checkpoints import checkpoint_target

    return checkpoint_target(folder)


TARGETS: Mapping[str, Callable[[Path], Target]] = {
    "npy": readers.npy,
    "prompts": readers.prompts,
    "splits": readers.splits,
    "truth": readers.truth,
    "durations-csv": readers.durations_csv,
    "durations-json": readers.durations_json,
    "results": readers.results,
    "labels": readers.labels,
    "prompt-cache": readers.prompt_cache,
    "manifest": readers.manifest,
    "bundle": _bundle,
    "prompts-archive": _prompts_archive,
    "self-test-archive": _self_test_archive,
    "tokenizer": _tokenizer,
    "graph": _graph,
    "checkpoint": _checkpoint,
}
"""What makes each target; a folder is given for its files. PyTorch and ONNX are loaded by those that need them."""


def find_target(name: str) -> Callable[[Path], Target]:
    """What makes a target: one of ``TARGETS``, or any ``module:function``."""
    if name in TARGETS:
        return TARGETS[name]
    module, _, function = name.partition(":")
    found: Callable[[Path], Target] = getattr(import_module(module), function)
    return found
