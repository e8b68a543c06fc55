"""Reading videos: their properties, and their frames at the times that a feature recipe names."""

import json
import os
import select
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from stale_runtime.errors import MissingPackageError, RecipeError, VideoError
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.system.files import open_without_blocking, reason, refuse_irregular
from stale_runtime.system.json_dataclasses import build
from stale_runtime.system.text import one_line
from stale_runtime.video.decoder_messages import HEADER, LARGEST_TEXT, Kind
from stale_runtime.video.video_properties import MOST_SAMPLES, VideoProperties

_DECODER: Final = "stale_runtime.video.video_decoder"
_STALL_S: Final = 30
"""Seconds without a message after which a decoder is given up."""
_NEEDED: Final = ("image_size", "interpolation", "resize", "channel_order", "snippet_s", "frames")
"""Properties of a recipe without which frames cannot be read."""
_MODULES: Final = {"av": "PyAV", "PIL": "Pillow"}


def require_video_reader() -> None:
    """Make sure that videos can be read at all; a run over many checks this before the first.

    Raises:
        MissingPackageError: the extra ``video`` is not installed.
    """
    for module, name in _MODULES.items():
        if find_spec(module) is None:
            raise MissingPackageError.for_extra(f"videos need {name}", "video")


def probe_video(path: Path | str) -> VideoProperties:
    """What is known of a video: its duration, size, rotation and codec.

    All its packets are listed, so the duration is that of the frames which are there, not what the header claims.

    Raises:
        VideoError: it cannot be read.
        MissingPackageError: the extra ``video`` is not installed.
    """
    decoder = _Decoder(Path(path), threads=1)
    decoder.close()
    return decoder.properties


def read_video(
    path: Path | str,
    recipe: FeatureRecipe,
    *,
    rows: Sequence[int] | NDArray[np.integer] | None = None,
    batch_rows: int = 8,
    threads: int = 1,
) -> "VideoFrames":
    """Read the frames of a video that the rows of its features are computed from, preprocessed for the vision tower.

    For each time the frame is taken that is on the screen then, by the presentation times in the file. Frames are
    turned as a player would turn them, and pixels that are not square are made so.

    Args:
        path: a video file.
        recipe: says which frames, and how they are resized. It needs not say the tower, mean and deviation.
        rows: indices of rows, in ascending order; None for all of ``recipe.row_count(duration_s)``.
        batch_rows: rows in a batch.
        threads: of the decoder.

    Returns:
        An iterator over batches (n, S, S, 3) of 8 bits in the recipe's order of channels, n being ``batch_rows`` times
        the recipe's frames a row, or less in the last batch. Close it, or use it in ``with``, if it is not exhausted.

    Raises:
        MissingPackageError: the extra ``video`` is not installed.
        VideoError: the video cannot be read. It may also be raised later, while frames are read.
        RecipeError: the recipe does not say enough.
        ValueError: rows that are not in ascending order, or not in the video.
    """
    unknown = [name for name in _NEEDED if getattr(recipe, name) is None]
    if unknown:
        raise RecipeError(
            f"the feature recipe says {', '.join(unknown)} is unknown, but frames are read by it; "
            "complete the recipe, or give features instead of a video"
        )
    return VideoFrames(Path(path), recipe, rows, batch_rows, threads)


class VideoFrames(Iterator[NDArray[np.uint8]]):
    """Batches of frames, see ``read_video``."""

    def __init__(
        self,
        path: Path,
        recipe: FeatureRecipe,
        rows: Sequence[int] | NDArray[np.integer] | None,
        batch_rows: int,
        threads: int,
    ) -> None:
        if batch_rows < 1:
            raise ValueError(f"batch_rows is {batch_rows}, expected at least 1")
        assert recipe.image_size is not None
        assert recipe.frames is not None
        self._decoder = _Decoder(path, threads)
        self._shape = (recipe.image_size, recipe.image_size, 3)
        self._batch = batch_rows * recipe.frames
        try:
            all_rows = recipe.row_count(self.properties.duration_s)
            wanted = None if rows is None else _check_rows(rows, all_rows)
            self.rows: int = all_rows if wanted is None else len(wanted)
            """How many rows the batches stand for."""
            self._left = self.rows * recipe.frames
            if self._left > MOST_SAMPLES:
                raise VideoError(
                    f"{path}: {self._left:,} frames are to be read, expected at most {MOST_SAMPLES:,}; cut the video "
                    "into parts, or take a longer snippet_s"
                )
            picture = {name: getattr(recipe, name) for name in _NEEDED[:4]}
            self._decoder.request(
                {
                    "rows": wanted,
                    "all_rows": all_rows,
                    "snippet_s": recipe.snippet_s,
                    "frames": recipe.frames,
                    "picture": picture,
                }
            )
        except BaseException:
            self.close()
            raise

    @property
    def properties(self) -> VideoProperties:
        """What is known of the video."""
        return self._decoder.properties

    @property
    def damaged_frames(self) -> int:
        """Frames that were decoded, but not completely; known once the last batch is read."""
        return self._decoder.damaged_frames

    def __next__(self) -> NDArray[np.uint8]:
        if self._left == 0:
            raise StopIteration
        batch = np.empty((min(self._batch, self._left), *self._shape), np.uint8)  # (n, S, S, 3)
        for image in batch:
            self._decoder.read_frame(image.data.cast("B"))
        self._left -= len(batch)
        if self._left == 0:
            self._decoder.finish()
        return batch

    def close(self) -> None:
        """End the decoding; nothing happens if it has ended."""
        self._left = 0
        self._decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Decoder:
    """The process that decodes, as seen from here. What it sends is not trusted either."""

    def __init__(self, path: Path, threads: int) -> None:
        require_video_reader()
        self._path = path
        self.damaged_frames = 0
        self._process = _start(path, threads)
        self._end = weakref.finalize(self, _end_process, self._process)
        try:
            self.properties = self._read_properties()
        except BaseException:
            self.close()
            raise

    def request(self, content: dict[str, Any]) -> None:
        """Ask for frames."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(content).encode() + b"\n")
            self._process.stdin.close()
        except BrokenPipeError:
            raise self._died() from None

    def read_frame(self, target: memoryview) -> None:
        """Read the next frame into ``target``, which has its size."""
        self._expect(Kind.FRAME, target)

    def finish(self) -> None:
        """Read what comes after the last frame."""
        counts = json.loads(self._expect(Kind.DONE))
        self.damaged_frames = max(int(counts["damaged_frames"]), 0)
        self.close()

    def close(self) -> None:
        """End the process, and wait until it has ended."""
        self._end()

    def _read_properties(self) -> VideoProperties:
        content = self._expect(Kind.PROPERTIES)
        try:
            return build(VideoProperties, json.loads(content))
        except ValueError as problem:
            raise VideoError(f"{self._path}: {one_line(str(problem))}; is it damaged?") from problem

    def _expect(self, wanted: Kind, target: memoryview | None = None) -> bytes:
        """Read the next message that says something; it must be of the wanted kind."""
        while True:
            kind, size = HEADER.unpack(self._read(memoryview(bytearray(HEADER.size))))
            if kind == wanted.value and target is not None and size == len(target):
                self._read(target)
                return b""
            if size > LARGEST_TEXT or (target is not None and kind == wanted.value):
                raise VideoError(f"{self._path}: its decoder sent nonsense; is it damaged?")
            content = bytes(self._read(memoryview(bytearray(size))))
            if kind == Kind.PROBLEM.value:
                raise VideoError(f"{self._path}: {one_line(content.decode(errors='replace'))}")
            if kind == wanted.value:
                return content
            if kind != Kind.BUSY.value:
                raise VideoError(f"{self._path}: its decoder sent nonsense; is it damaged?")

    def _read(self, target: memoryview) -> memoryview:
        """Fill ``target``, for which each part must come in time."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        filled = 0
        while filled < len(target):
            if not poll.poll(_STALL_S * 1000):
                self.close()
                raise VideoError(
                    f"{self._path}: decoding stood still for {_STALL_S} s, so it was given up; is it damaged?"
                )
            size = os.readv(descriptor, [target[filled:]])
            if size == 0:
                raise self._died()
            filled += size
        return target

    def _died(self) -> VideoError:
        """The error for a process that ended without a message."""
        assert self._process.stderr is not None
        code = self._process.wait()
        if code == -signal.SIGXCPU:
            why = "took more CPU time than a video of its size and duration may; cut it into parts"
        elif code < 0:
            why = f"ended its decoder by {signal.Signals(-code).name}; it may be damaged, or memory ran out"
        else:
            last = one_line(self._process.stderr.read(LARGEST_TEXT).decode(errors="replace").strip()[-300:])
            why = f"its decoder failed with exit code {code} ({last or 'no message'})"
        return VideoError(f"{self._path}: {why}")


def _start(path: Path, threads: int) -> "subprocess.Popen[bytes]":
    """Start a process that decodes an open file, and has no other."""
    try:
        with open(path, "rb", buffering=0, opener=open_without_blocking) as file:
            refuse_irregular(file.fileno(), path, VideoError)
            command = [
                sys.executable,
                "-P",
                "-m",
                _DECODER,
                str(file.fileno()),
                str(threads),
            ]
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(file.fileno(),),
            )
    except OSError as problem:
        raise VideoError(f"{path}: {reason(problem)}") from problem


def _end_process(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _check_rows(rows: Sequence[int] | NDArray[np.integer], all_rows: int) -> list[int]:
    wanted = np.asarray(rows, np.int64)
    if wanted.ndim != 1 or len(wanted) == 0 or wanted[0] < 0 or wanted[-1] >= all_rows or (np.diff(wanted) <= 0).any():
        raise ValueError(f"rows {wanted.tolist()[:5]}..., expected ascending indices below {all_rows}")
    return [int(row) for row in wanted]
