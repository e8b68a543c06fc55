"""What a run needs before it looks at features, be they in files or in a stream."""

from dataclasses import dataclass

import click

from stale_runtime.bundle.bundle import Bundle
from stale_runtime.commands.run_request import RunRequest
from stale_runtime.decoding.decoders import NEUTRAL, unreported_class
from stale_runtime.errors import BundleError
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inputs.prompt_lists import describe_doubts, describe_joined, split_name
from stale_runtime.inputs.prompts import Prompts
from stale_runtime.system.memory import detection_bytes, held_bytes
from stale_runtime.terminal import console

NAME = "stale-run"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A bundle that is ready to run, and encoded prompts."""

    localizer: Localizer
    prompts: EncodedPrompts
    worker_bytes: int
    """Memory that another process takes at least which opens the same and runs it."""


def prepare_localizer(request: RunRequest, prompts: Prompts, *, videos: bool = False) -> Prepared:
    """Open the bundle and encode the prompts.

    Args:
        request: what is asked for.
        prompts: class names.
        videos: whether the bundle's vision tower is needed.

    Raises:
        StaleError: something cannot be used.
        click.UsageError: the bundle's decoder lacks an option.
    """
    bundle = request.bundle.open()
    if request.strict:
        _require_comparable(bundle)
    settings = request.settings(console.limit_threads(NAME, request.threads))
    try:
        localizer = Localizer(bundle, settings)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from problem
    if videos:
        localizer.require_videos()
    opened_bytes = held_bytes()  # without the text tower, which no worker opens
    encoded = localizer.encode_prompts(prompts)
    if localizer.cache_problem is not None:
        console.note(NAME, f"warning: {localizer.cache_problem}")
    localizer.require_memory(encoded)
    _note_prompts(prompts)
    return Prepared(
        localizer=localizer, prompts=encoded, worker_bytes=opened_bytes + _running_bytes(localizer, encoded)
    )


def _running_bytes(localizer: Localizer, prompts: EncodedPrompts) -> int:
    """The least memory that detecting takes, in the shortest video."""
    manifest, length = localizer.bundle.manifest, localizer.length_for(1)
    rows = min(length, manifest.temporal_scale)
    return detection_bytes(length=length, rows=rows, classes=len(prompts.names), channels=manifest.channels)


def _require_comparable(bundle: Bundle) -> None:
    """Make sure that a bundle says something about the features that its network was trained on.

    Raises:
        BundleError: it says nothing.
    """
    if not bundle.manifest.feature_check.knows_anything:
        raise BundleError(
            f"--strict: {bundle.path} says nothing about the features of the training, so none can be compared; ask "
            "whoever made it to export it again with --calibration, or leave out --strict"
        )


def _note_prompts(prompts: Prompts) -> None:
    """Say what is special about some class names."""
    if unreported_class(prompts.names) is not None:
        console.note(NAME, f"{NEUTRAL!r} of ActivityNet's closed set counts as background, and is not reported")
    for doubt in describe_doubts(prompts.names):
        console.note(NAME, doubt)
    joined = describe_joined(prompts.names)
    if joined is not None and not prompts.split_names:
        told, name = joined
        console.note(
            NAME,
            f"{told}; unless the network was trained with that, find more with --split-names, which prompts for "
            f"{split_name(name)!r}",
        )


def describe_localizer(localizer: Localizer) -> str:
    """What is used, in one line."""
    settings = f"{localizer.backend}, T={localizer.length}, windows {localizer.window}, decoder {localizer.decoder}"
    bundle = f"bundle {localizer.bundle.path} (sha256 {localizer.bundle.manifest_sha256})"
    return f"{bundle}, {settings}, {localizer.threads} CPU threads"
