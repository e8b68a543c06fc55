"""Reading untrusted files within size limits, and writing files completely or not at all."""

import errno
import io
import json
import math
import os
import re
import select
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from stale_runtime.errors import StaleError
from stale_runtime.system.memory import require_memory
from stale_runtime.system.workspace import sync_folder, workspace, write_durably

MEGABYTE = 2**20
_DESCRIPTOR = re.compile(r"-|/dev/stdin|/(dev|proc/self)/fd/(?P<number>[0-9]{1,9})")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON writes half of a character, a surrogate of UTF-16."""
JSON_GROWTH = 2
"""Bytes of memory that parsed annotations or detections take at least for each byte of JSON; three to six are usual."""
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room and run it again"),
    errno.EFBIG: "raise the limit on file sizes, or give another place",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "give a place that you may write to"),
}


def read_bytes(path: Path, *, limit: int, error: type[StaleError]) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Raises:
        StaleError: as ``error``, if there is no such file, it is not a regular one, or it is larger.
        OutOfMemoryError: there is not enough memory for it.
    """
    try:
        with open(path, "rb", opener=open_without_blocking) as file:
            refuse_irregular(file.fileno(), path, error)
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                require_memory(size, str(path), "split it")
                data = _read_at_most(file, limit + 1)
    except OSError as problem:
        raise error(f"{path}: {reason(problem)}") from problem
    if size > limit or len(data) > limit:
        raise error(f"{path}: more than {limit:,} bytes, the most that such a file may have")
    return data


def read_text(path: Path, *, limit: int, error: type[StaleError]) -> str:
    """Read a UTF-8 file of at most ``limit`` bytes, with or without a byte order mark.

    Raises:
        StaleError: as ``error``, if it cannot be read or is not text.
    """
    return _decode(read_bytes(path, limit=limit, error=error), path, error)


def read_piped_text(path: Path, *, limit: int, error: type[StaleError]) -> str | None:
    """Read UTF-8 text from an open descriptor of this process, waiting until its other end is closed.

    Args:
        path: ``-`` or ``/dev/stdin`` for standard input, or ``/dev/fd/N``, as shells name the pipe of ``<(command)``.
        limit: most bytes.
        error: what to raise.

    Returns:
        None if the path names no descriptor.

    Raises:
        StaleError: as ``error``, if it is a terminal, cannot be read, has more bytes, or no text.
    """
    match = _DESCRIPTOR.fullmatch(str(path))
    if match is None:
        return None
    descriptor = int(match["number"] or 0)
    try:
        if os.isatty(descriptor):
            raise error(f"{path}: a terminal, expected text; pipe it into the command, or give a file")
        data = b""
        while len(data) <= limit and (piece := _wait_and_read(descriptor, min(MEGABYTE, limit + 1 - len(data)))):
            data += piece
    except OSError as problem:
        raise error(f"{path}: {reason(problem)}") from problem
    if len(data) > limit:
        raise error(f"{path}: more than {limit:,} bytes, the most that it may have")
    return _decode(data, path, error)


def _wait_and_read(descriptor: int, size: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, size)
        except BlockingIOError:  # whoever opened it does not want to wait
            select.select([descriptor], [], [])


def _decode(data: bytes, path: Path, error: type[StaleError]) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise error(f"{path}, line {line}: not UTF-8 text; save it as UTF-8") from problem
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise error(f"{path}, line {line}: a binary file, expected UTF-8 text")
    return text


def read_json(path: Path, *, limit: int, error: type[StaleError]) -> Any:
    """Parse a JSON file of at most ``limit`` bytes; its numbers must be finite and its strings valid Unicode.

    Raises:
        StaleError: as ``error``, if it cannot be read or is not JSON.
        OutOfMemoryError: there is not enough memory to parse it.
    """
    text = read_text(path, limit=limit, error=error)
    require_memory(JSON_GROWTH * len(text), str(path), "split it")
    return parse_json(text, str(path), error=error)


def parse_json(text: str, place: str, *, error: type[StaleError]) -> Any:
    """Parse JSON whose numbers must be finite and whose strings valid Unicode.

    Args:
        text: from an untrusted file.
        place: where it is, for messages.
        error: what to raise.

    Raises:
        StaleError: as ``error``, if it is not JSON.
    """
    try:
        content = json.loads(text, parse_constant=_parse_finite, parse_float=_parse_finite, parse_int=_parse_integer)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()  # raises ValueError for a lone surrogate, not for a pair
        return content
    except (ValueError, RecursionError) as problem:
        raise error(f"{place}: not valid JSON ({problem})") from problem


def write_whole(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file so that nobody ever sees part of it under its name, even if the process is killed.

    Args:
        path: the file.
        data: its content, which may come in pieces.

    Raises:
        OSError: it cannot be written; a file that was there is unchanged.
    """
    write_together(path.parent, [(path.name, data)])


def write_together(folder: Path, contents: Iterable[tuple[str, bytes | Iterable[bytes]]]) -> None:
    """Write several files into one folder: first all under temporary names, then rename them in the order given.

    Args:
        folder: it must exist.
        contents: pairs of file name, each given once, and content.

    Raises:
        OSError: one cannot be written; the files that were there are unchanged.
    """
    with workspace(folder) as space:
        names = []
        for name, data in contents:
            write_durably(space / name, data)
            names.append(name)
        for name in names:
            os.replace(space / name, folder / name)
        sync_folder(folder)


def reason(problem: OSError) -> str:
    """What the operating system says went wrong, without number and path."""
    return problem.strerror or str(problem)


def why_unwritten(problem: OSError) -> str:
    """Why a file could not be written, and the remedy."""
    return f"{reason(problem)}; {_REMEDIES.get(problem.errno or 0, 'give another place')}"


def open_without_blocking(path: str, flags: int) -> int:
    """An opener for ``open`` that does not wait for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def refuse_irregular(descriptor: int, path: Path, error: type[StaleError]) -> None:
    """Make sure that an open file is not a folder, pipe or device.

    Raises:
        StaleError: as ``error``, if it is one.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise error(f"{path}: not a regular file; give the path of a file")


def _read_at_most(file: BinaryIO, size: int) -> bytes:
    """Read in pieces, because one large ``read`` reserves memory for all of ``size`` even if the file is small."""
    buffer = io.BytesIO()
    while piece := file.read(min(MEGABYTE, size - buffer.tell())):
        buffer.write(piece)
    return buffer.getvalue()


def _parse_finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _parse_integer(text: str) -> int:
    _parse_finite(text)
    return int(text)
