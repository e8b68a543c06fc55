"""Getting tensors and plain values out of a file without executing anything in it."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

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
            stored = _is_stored_zip(path)
    except OSError as problem:
        raise CheckpointError(f"{path}: {reason(problem)}") from problem
    if not stored:
        raise CheckpointError(f"{path}: not a PyTorch checkpoint (an uncompressed zip file); save it with torch.save")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch raises many kinds on broken and on hostile files
        raise CheckpointError(
            f"{path}: cannot be read as plain tensors ({_first_line(problem)}); it is truncated, or holds objects "
            "with code, which are never loaded"
        ) from problem
    return Loaded(content, sha256, size)


def _is_stored_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _first_line(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0][:160] if lines else type(problem).__name__
