"""Asking object storage for lists and files, within limits of time and size. The storage is reached through fsspec."""

import errno
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from stale_runtime.errors import MissingPackageError, OutputError, RemoteFileError, StaleError
from stale_runtime.inputs.fetch_limits import USUAL_LIMITS, FetchLimits
from stale_runtime.inputs.remote_files import RemoteFile, RemoteState
from stale_runtime.inputs.storage_problems import StorageProblem, classify, out_of_time

_MODULES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "memory": "fsspec"}
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "blob_id", "oid", "LastModified", "mtime", "created")
"""What storages call the version of a file, the best first."""
_LONGEST_VERSION = 200
"""Characters of it that are kept."""
_PIECE = 2**16
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_GIVE_UP_AFTER = 5
"""Files in a row that could not be had because of their bucket, after which its other files are not tried."""
_TRY_AGAIN_S = 60.0
"""After so long they are."""
_QUIET = ("fsspec", "s3fs", "aiobotocore", "botocore", "gcsfs", "google", "aiohttp", "asyncio", "huggingface_hub")
"""Loggers that print on stderr unless the program says otherwise; what they say may contain credentials."""
_Result = TypeVar("_Result")


class RemoteStorage:
    """One kind of object storage, for the threads of one process."""

    def __init__(self, protocol: str, limits: FetchLimits) -> None:
        """Args: protocol: one of ``PROTOCOLS``; limits: of each request.

        Raises:
            MissingPackageError: what reads it is not installed.
        """
        module = _MODULES[protocol]
        if find_spec("fsspec") is None or find_spec(module) is None:
            raise MissingPackageError.for_extra(f"{protocol}:// needs {module}", "remote")
        for name in _QUIET:
            logging.getLogger(name).addHandler(logging.NullHandler())
        self._protocol, self._limits, self._places = protocol, limits, _Places()
        self._system = _SYSTEMS[protocol](limits)

    def entries(self, folder: RemoteFile) -> dict[str, RemoteState | None]:
        """The files and folders in a folder.

        Returns:
            What is known of each by its name; None for a folder.

        Raises:
            RemoteFileError: it cannot be listed.
        """
        found = self._try(
            folder,
            lambda left_s: self._call("ls", folder.url, detail=True, within_s=left_s),
            self._limits.listing_s,
        )
        own = self._system._strip_protocol(folder.url).strip("/")
        names = {entry["name"].strip("/"): entry for entry in found}
        return {
            name.rpartition("/")[2]: None if entry.get("type") == "directory" else _state(entry)
            for name, entry in names.items()
            if name != own
        }

    def look_up(self, file: RemoteFile) -> RemoteState:
        """What the storage says of a file.

        Raises:
            RemoteFileError: it cannot be had, or is a folder.
        """
        state = self.find(file)
        if state is None:
            raise classify(FileNotFoundError(), self._protocol).error(str(file))
        return state

    def find(self, file: RemoteFile) -> RemoteState | None:
        """Like ``look_up``, but None if there is no such file."""

        def ask(left_s: float) -> Any:
            try:
                return self._call("info", file.url, within_s=left_s)
            except FileNotFoundError:
                return None

        entry = self._try(file, ask, self._limits.request_s)
        if entry is None:
            return None
        if entry.get("type") == "directory":
            raise RemoteFileError(f"{file}: a folder, expected a file; give the name of a file, or rename the folder")
        return _state(entry)

    def download(self, file: RemoteFile, target: Path, size: int) -> None:
        """Copy a file to this machine.

        Args:
            file: in the storage.
            target: the copy; one that is there is replaced.
            size: its bytes; reading ends there.

        Raises:
            RemoteFileError: it cannot be had, in the time that its size allows, or has another size.
        """
        within_s = self._limits.request_s + size / self._limits.slowest
        self._try(file, partial(self._download_once, file, target, size), within_s)

    def _download_once(self, file: RemoteFile, target: Path, size: int, within_s: float) -> None:
        try:
            if self._system.async_impl:
                self._get(file, target, size, within_s)
            else:
                _run_within(within_s, partial(self._copy, file, target, size))
        except OSError as problem:
            if problem.errno not in _FULL:
                raise
            raise OutputError(
                f"{file}: no room for a copy of {size:,} bytes; make room, or name a larger temporary folder in TMPDIR"
            ) from None
        _require_size(file, os.path.getsize(target), size)

    def _get(self, file: RemoteFile, target: Path, size: int, within_s: float) -> None:
        from fsspec.callbacks import Callback  # only with object storage

        growth = Callback(hooks={"size": lambda _, value: _require_size(file, value, size, at_most=True)})
        one_request = {"concurrency": 1} if self._protocol == "gs" else {}  # s3fs is told so when it is opened
        self._call("get_file", file.url, str(target), within_s=within_s, callback=growth, **one_request)

    def _copy(self, file: RemoteFile, target: Path, size: int) -> None:
        with self._system.open(file.url, "rb", block_size=0) as content, open(target, "wb") as copy:
            while piece := content.read(_PIECE):
                copy.write(piece)
                _require_size(file, copy.tell(), size, at_most=True)

    def _call(self, name: str, *args: Any, within_s: float, **options: Any) -> Any:
        if not self._system.async_impl:
            return _run_within(within_s, partial(getattr(self._system, name), *args, **options))
        from fsspec.asyn import sync  # only with object storage

        return sync(self._system.loop, getattr(self._system, f"_{name}"), *args, timeout=within_s, **options)

    def _try(self, file: RemoteFile, attempt: Callable[[float], _Result], within_s: float) -> _Result:
        """Make a request, again if it fails with what may be temporary."""
        self._places.require_hope(file)
        limits, end = self._limits, time.monotonic() + within_s
        for n in range(1, limits.attempts + 1):
            try:
                result = attempt(max(end - time.monotonic(), 1e-3))
            except StaleError:
                raise
            except Exception as problem:
                found = classify(problem, self._protocol)
            else:
                self._places.note_success(file)
                return result
            if time.monotonic() >= end:
                found = out_of_time(within_s, self._protocol)
            pause_s = limits.pause_s * 2 ** (n - 1) * random.uniform(0.75, 1.25)
            if not found.temporary or n == limits.attempts or time.monotonic() + pause_s >= end:
                break
            time.sleep(pause_s)
        if found.whole_place:
            self._places.note_failure(file, found)
        raise found.error(str(file), n)


class _Places:
    """Which buckets are not asked any more for a while, because nothing came of it several times in a row."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._closed: dict[str, tuple[float, str]] = {}
        """Until when, and why."""

    def require_hope(self, file: RemoteFile) -> None:
        """Make sure that the file's bucket may be asked.

        Raises:
            RemoteFileError: it has failed too often.
        """
        with self._lock:
            until, why = self._closed.get(file.place, (0.0, ""))
        if time.monotonic() < until:
            raise RemoteFileError(
                f"{file}: not tried, because {_GIVE_UP_AFTER} files of {file.place} in a row could not be had ({why}); "
                "once that works, repeat the run with --resume"
            )

    def note_success(self, file: RemoteFile) -> None:
        with self._lock:
            self._failures.pop(file.place, None)
            self._closed.pop(file.place, None)

    def note_failure(self, file: RemoteFile, problem: StorageProblem) -> None:
        with self._lock:
            count = self._failures[file.place] = self._failures.get(file.place, 0) + 1
            if count >= _GIVE_UP_AFTER:
                self._closed[file.place] = time.monotonic() + _TRY_AGAIN_S, problem.text.partition("; ")[0]


def _require_size(file: RemoteFile, found: int, size: int, *, at_most: bool = False) -> None:
    """Make sure that a copy has as many bytes as the storage had said, or not yet more.

    Raises:
        RemoteFileError: it has not.
    """
    if found > size or (found < size and not at_most):
        raise RemoteFileError(
            f"{file}: {'more' if at_most else f'{found:,}'} bytes, expected {size:,} as the storage had said; wait "
            "until the file is written, and run it again"
        )


def open_storage(protocol: str, limits: FetchLimits = USUAL_LIMITS) -> RemoteStorage:
    """What reads a kind of URLs; one for all threads of a process.

    Raises:
        MissingPackageError: what is needed for it is not installed.
    """
    with _opening:
        return _open(protocol, limits, os.getpid())  # what was opened before a fork is of no use after it


_opening = threading.Lock()


@cache
def _open(protocol: str, limits: FetchLimits, _process: int) -> RemoteStorage:
    return RemoteStorage(protocol, limits)


def _open_s3(limits: FetchLimits) -> Any:
    from s3fs import S3FileSystem

    system = S3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        max_concurrency=1,  # a file is one request
        config_kwargs={
            "connect_timeout": limits.connect_s,
            "read_timeout": limits.read_s,
            "retries": {"total_max_attempts": 1},
        },
    )
    system.retries = 1  # we try again ourselves
    return system


def _open_gs(limits: FetchLimits) -> Any:
    from aiohttp import ClientTimeout
    from gcsfs.core import GCSFileSystem

    timeout = ClientTimeout(total=None, sock_connect=limits.connect_s, sock_read=limits.read_s)
    return GCSFileSystem(skip_instance_cache=True, use_listings_cache=False, requests_timeout=timeout)


def _open_hf(_: FetchLimits) -> Any:  # it has limits of its own: HF_HUB_DOWNLOAD_TIMEOUT
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read while it is imported
    from huggingface_hub import HfFileSystem

    return HfFileSystem(skip_instance_cache=True, use_listings_cache=False)


def _open_memory(_: FetchLimits) -> Any:
    from fsspec.implementations.memory import MemoryFileSystem

    return MemoryFileSystem(skip_instance_cache=True)


_SYSTEMS: Mapping[str, Callable[[FetchLimits], Any]] = {
    "s3": _open_s3,
    "gs": _open_gs,
    "hf": _open_hf,
    "memory": _open_memory,
}


def _state(entry: Mapping[str, Any]) -> RemoteState:
    """What a storage says of a file."""
    size = int(entry["size"])
    version = next((entry[name] for name in _VERSIONS if entry.get(name)), "")
    text = str(version.timestamp() if isinstance(version, datetime) else version)
    return RemoteState(size, text.strip('"')[:_LONGEST_VERSION])


def _run_within(seconds: float, function: Callable[[], _Result]) -> _Result:
    """Call a function that cannot be stopped; if it takes too long, it is left alone, in a thread of its own.

    Raises:
        TimeoutError: it took too long.
    """
    results: list[_Result] = []
    problems: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if problems:
        raise problems[0]
    if not results:
        raise TimeoutError
    return results[0]
