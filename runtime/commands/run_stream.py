"""``stale-run -``: finds actions in snippets that arrive on standard input."""

import json
import os
import select
import time

import click

from stale_runtime.commands.feature_warnings import compare_stream
from stale_runtime.commands.run_preparation import NAME, describe_localizer, prepare_localizer
from stale_runtime.commands.run_request import RunRequest
from stale_runtime.detections import SECONDS, SNIPPETS, Detection
from stale_runtime.errors import FeatureError
from stale_runtime.inference.detection_stream import DetectionStream
from stale_runtime.inputs.feature_stream import read_rows
from stale_runtime.inputs.prompts import read_prompts
from stale_runtime.terminal import console

_DESCRIPTOR = 0
"""Of standard input. Python's own object waits until its buffer is full."""


def run_stream(request: RunRequest) -> int:
    """Print each detection as soon as it is final.

    Returns:
        The exit code, 0.

    Raises:
        StaleError: something that is needed cannot be used, or the stream cannot; then what was found before is out.
        KeyboardInterrupt: with what had been read by then.
    """
    if os.isatty(_DESCRIPTOR):
        raise click.UsageError("-, but standard input is a terminal; pipe features into it, or give a .npy file")
    prepared = prepare_localizer(request, read_prompts(request.prompts, split_names=request.split_names))
    localizer, channels = prepared.localizer, prepared.localizer.bundle.manifest.channels
    if request.width not in (None, channels):
        raise FeatureError(f"--width {request.width}: this bundle was exported for features of width {channels}")
    snippet_s = request.timeline().snippet_s
    try:
        stream = localizer.stream(prepared.prompts, snippet_s=snippet_s)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from problem
    if request.verbose:
        note = f"{describe_localizer(localizer)}; {len(prepared.prompts.names)} prompts; {_describe_delay(stream)}"
        console.note(NAME, note)
    started, printed = time.perf_counter(), 0
    rows = read_rows(_read_stdin, channels, raw=request.width is not None)
    rows = compare_stream(rows, localizer.bundle.manifest.feature_check, snippet_s=snippet_s, strict=request.strict)
    try:
        for detection in stream.detections(rows):
            if detection.score < (request.min_score or 0):
                continue
            if not console.echo(_as_json(detection, SNIPPETS if snippet_s is None else SECONDS)):
                break  # nobody reads them any more
            printed += 1
    except KeyboardInterrupt as problem:
        problem.args = (f"{stream.received:,} snippets were read, and what was final by then is out",)
        raise
    finally:
        if request.verbose:
            taken = f"{stream.received:,} snippets in {time.perf_counter() - started:.3f} s"
            console.note(NAME, f"{taken}, {printed:,} detections")
    return 0


def _read_stdin(size: int) -> bytes:
    while True:
        try:
            return os.read(_DESCRIPTOR, size)
        except BlockingIOError:  # whoever opened it does not want to wait, but this command does
            select.select([_DESCRIPTOR], [], [])


def _as_json(detection: Detection, unit: str) -> str:
    return json.dumps({**detection._asdict(), "unit": unit}, ensure_ascii=False, allow_nan=False)


def _describe_delay(stream: DetectionStream) -> str:
    return f"a detection is final at most {stream.delay:,} snippets after its middle"
