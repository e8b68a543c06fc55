"""A file beside the output with the videos that a run has finished, so that an interruption costs only one
video, or a group of short ones.

::

    {"journal": "stale-run", "settings": {"backend": "ort-int8", ...}}
    {"crc32": 3735928559, "video": "abc", "size": 204928, "mtime_ns": 1764000000000000000, "duration_s": 48.9, ...}
    {"crc32": 3735928559, "video": "of a bucket", "size": 204928, "version": "9a0364b9e99bb480dd25e1f0284c8555", ...}
    ...

A line is appended and flushed for each finished video: a killed process loses none, a power cut only those of the last
seconds. A torn or damaged line, and all lines after it, count as unfinished.
"""

import fcntl
import json
import os
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.errors import JournalError
from stale_runtime.inputs.remote_files import RemoteFile, RemoteState, Source
from stale_runtime.system.files import MEGABYTE, refuse_irregular, why_unwritten
from stale_runtime.system.text import setting_differences

JOURNAL_SUFFIX = ".partial.jsonl"
"""What the name of a journal ends with."""
SYNC_S = 10.0
"""Seconds between two syncs to the disk."""
LONGEST_LINE = 512 * MEGABYTE
"""Bytes; millions of detections of a long video. A video that needs more is not written, and done again on resuming."""
_KIND = "stale-run"
_START = b'{"journal": '


class FileState(NamedTuple):
    """Size and time of a local file before it was read, to notice later changes."""

    size: int
    """Bytes."""
    mtime_ns: int


AnyState: TypeAlias = FileState | RemoteState
"""Of a local file, or of one in object storage."""


def file_state(path: Source) -> AnyState | None:
    """The current state of a file, or the state that its storage gave; None if there is none."""
    if isinstance(path, RemoteFile):
        return path.known_state
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return FileState(status.st_size, status.st_mtime_ns)


def journal_path(output: Path) -> Path:
    """The path of the journal of a run that writes this output."""
    return output.with_name(f"{output.name}{JOURNAL_SUFFIX}")


class Journal:
    """The finished videos of a run, in a file that only one process at a time may write."""

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Continue the journal of an interrupted run, or start a new one.

        Args:
            path: see ``journal_path``.
            settings: everything that detections depend on except the feature files; JSON values by name.
            resume: True to keep what an interrupted run has finished, False to start over.

        Raises:
            JournalError: the file cannot be read or written, another process is writing it, it is not a journal, or
                it is to be resumed and belongs to a run with other settings.
        """
        self.path = path
        self.discarded = 0
        """How many finished videos of an interrupted run were dropped, because it was not resumed."""
        self._videos: dict[str, tuple[AnyState, VideoDetections]] = {}
        self._file = _open(path)
        try:
            found, usable = self._read()
            if found is not None and resume:
                self._check_settings(found, settings)
            else:
                self.discarded = len(self._videos)
                self._videos, usable = {}, 0
            self._file.truncate(usable)
            self._file.seek(usable)
            if not usable:
                self._append(json.dumps({"journal": _KIND, "settings": dict(settings)}, allow_nan=False))
            self._sync()
            self._ids = set(self._videos)
        except OSError as problem:
            self._close()
            raise JournalError(f"{path}: {why_unwritten(problem)}") from problem
        except BaseException:
            self._close()
            raise

    def __len__(self) -> int:
        return len(self._ids)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        with suppress(OSError):  # on a full disk, closing tries to write again what has just failed
            self._file.close()

    def finished(self, video: str, state: AnyState | None) -> VideoDetections | None:
        """The detections of a video; None if it is not finished or its feature file has changed since."""
        known = self._videos.get(video)
        return known[1] if known is not None and known[0] == state else None

    def add(self, state: AnyState, found: VideoDetections) -> None:
        """Write a finished video.

        Raises:
            JournalError: it cannot be written.
        """
        record = {"video": found.video, **state._asdict(), "duration_s": found.duration_s, "window": found.window}
        if found.recomputed:
            record["recomputed"] = found.recomputed
        record["detections"] = found.detections
        line = _add_checksum(record)
        if len(line) >= LONGEST_LINE:
            return
        try:
            self._append(line)
            if time.monotonic() > self._synced + SYNC_S:
                self._sync()
        except OSError as problem:
            raise JournalError(
                f"{self.path}: {why_unwritten(problem)}; the videos before this one are kept, continue with --resume"
            ) from problem
        self._ids.add(found.video)

    def remove(self) -> None:
        """Delete the journal of a complete run."""
        self.path.unlink(missing_ok=True)

    def _append(self, line: str) -> None:
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _read(self) -> tuple[dict[str, Any] | None, int]:
        """Read the videos of an interrupted run; returns its settings, if any, and the size of all undamaged lines."""
        first = self._file.readline(LONGEST_LINE)
        torn = not first.endswith(b"\n") and first.startswith(_START[: len(first)])
        if torn or not first.strip(b"\0\n"):  # the run was stopped before its first line was on the disk
            return None, 0
        settings = _parse_settings(first)
        if settings is None:
            raise JournalError(f"{self.path}: not a journal of stale-run; rename it, or choose another -o")
        usable = len(first)
        while (line := self._file.readline(LONGEST_LINE)).endswith(b"\n"):
            try:
                state, found = _parse_video(line)
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError, OverflowError):
                break
            self._videos[found.video] = state, found
            usable += len(line)
        return settings, usable

    def _check_settings(self, found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        differences = setting_differences(found, settings)
        if differences:
            changes = ", ".join(f"{name} {before}, now {now}" for name, before, now in differences)
            raise JournalError(
                f"{self.path}: the interrupted run had other settings ({changes}); repeat its options, or leave out "
                "--resume to start over"
            )


def _open(path: Path) -> BinaryIO:
    """Open a journal for reading and writing, locked against other processes."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        except OSError as problem:
            raise JournalError(f"{path}: {why_unwritten(problem)}") from problem
        try:
            refuse_irregular(descriptor, path, JournalError)
            _lock(descriptor, path)
            if _is_still_at(descriptor, path):
                return os.fdopen(descriptor, "r+b")
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another run completed and removed the file before this one could lock it


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        raise JournalError(f"{path}: another stale-run is writing it; wait for it, or choose another -o") from problem
    except OSError:  # the file system has no locks
        return


def _is_still_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _parse_settings(line: bytes) -> dict[str, Any] | None:
    """The settings in the first line of a journal; None if the line is something else."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(content, dict) and content.get("journal") == _KIND
    settings = content.get("settings") if known else None
    return settings if isinstance(settings, dict) else None


def _add_checksum(record: Mapping[str, Any]) -> str:
    """A video's line: the record as JSON, with a checksum of that JSON, which stays the same when it is parsed."""
    text = json.dumps(record, allow_nan=False)
    return f'{{"crc32": {zlib.crc32(text.encode())}, {text[1:]}'


def _parse_video(line: bytes) -> tuple[AnyState, VideoDetections]:
    content = json.loads(line)
    del content["crc32"]
    if line != _add_checksum(content).encode() + b"\n":
        raise ValueError("damaged")
    rows = tuple(Detection(str(label), *map(float, numbers)) for label, *numbers in content["detections"])
    duration_s = content["duration_s"]
    if duration_s is not None:
        duration_s = float(duration_s)
    window = content["window"]
    if window is not None:
        window = int(window)
    found = VideoDetections(
        video=str(content["video"]),
        duration_s=duration_s,
        detections=rows,
        window=window,
        recomputed=int(content.get("recomputed", 0)),
    )
    return _parse_state(content), found


def _parse_state(content: Mapping[str, Any]) -> AnyState:
    if "version" in content:
        return RemoteState(int(content["size"]), str(content["version"]))
    return FileState(int(content["size"]), int(content["mtime_ns"]))
