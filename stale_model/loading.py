"""Getting tensors and plain values out of a file without executing anything in it."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from stale_runtime.errors import CheckpointError
from stale_runtime.files import reason


class Loaded(NamedTuple):
    """A checkpoint file."""

    content: Any
    """Tensors on the CPU, and plain values."""
    sha256: str
    """Of the file."""
    size: int
    """Of the file, in bytes."""


def load_plain(path: Path) -> Loaded:
    """Read what ``torch.save`` wrote, tensors and plain values only.

    Raises:
        CheckpointError: it cannot be read, is compressed, truncated, or holds objects with code.
    """
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            return Loaded(plain_content(file, str(path)), sha256, size)
    except OSError as problem:
        raise CheckpointError(f"{path}: {reason(problem)}") from problem


def plain_content(file: BinaryIO, name: str) -> Any:
    """The same of a file that is open, wherever it stands.

    Args:
        file: what ``torch.save`` wrote.
        name: how messages call it.

    Raises:
        CheckpointError: it cannot be read, is compressed, truncated, or holds objects with code.
    """
    if not _is_stored_zip(file):
        raise CheckpointError(f"{name}: not a PyTorch checkpoint (an uncompressed zip file); save it with torch.save")
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch raises many kinds on broken and on hostile files
        raise CheckpointError(
            f"{name}: cannot be read as plain tensors ({_first_line(problem)}); it is truncated, or holds objects "
            "with code, which are never loaded"
        ) from problem


def _is_stored_zip(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _first_line(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0][:160] if lines else type(problem).__name__
