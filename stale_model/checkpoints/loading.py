"""Getting tensors and plain values out of a file without executing anything in it."""

import hashlib
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from stale_model.checkpoints.legacy_archive import HEAD, LegacyArchive
from stale_model.checkpoints.tensor_archive import TensorArchive
from stale_runtime.errors import CheckpointError, OutOfMemoryError
from stale_runtime.system.files import open_without_blocking, reason, refuse_irregular

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class _ShortRepr(reprlib.Repr):
    """Shortens dictionaries of any class, which ``reprlib`` writes out: with shared parts they may never end."""

    def repr_instance(self, x: Any, level: int) -> str:
        return type(x).__name__ if isinstance(x, dict) else super().repr_instance(x, level)


_SHORT = _ShortRepr()


class Loaded(NamedTuple):
    """A checkpoint file that has been read."""

    content: Any
    """Tensors on the CPU, and plain values."""
    sha256: str
    """Hash of the file."""
    size: int
    """Size of the file in bytes."""


def load_plain(path: Path) -> Loaded:
    """Read a file that ``torch.save`` wrote: tensors, plain values, and a ``SkippedObject`` for all else.

    Raises:
        CheckpointError: it cannot be read, is compressed, truncated, or contains objects with code.
        OutOfMemoryError: there is not enough memory for it.
    """
    try:
        with open(path, "rb", opener=open_without_blocking) as file:
            refuse_irregular(file.fileno(), path, CheckpointError)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            return Loaded(plain_content(file, str(path)), sha256, size)
    except OSError as problem:
        raise CheckpointError(f"{path}: {reason(problem)}") from problem


def plain_content(file: BinaryIO, name: str, *, quantized: bool = False) -> Any:
    """Tensors and plain values from an open file; nothing else in it is ever made.

    Args:
        file: what ``torch.save`` wrote, at any position.
        name: name of the file, for messages.
        quantized: whether PyTorch's quantized tensors may be in it; if so, objects of other kinds are refused, else
            they become a ``SkippedObject``.

    Raises:
        CheckpointError: it cannot be read, is compressed, truncated, or contains objects with code.
        OutOfMemoryError: there is not enough memory for it.
    """
    file.seek(0)
    is_legacy = file.read(len(HEAD)) == HEAD
    try:
        archive = LegacyArchive(file) if is_legacy else TensorArchive(file)
    except Exception as problem:  # zipfile raises many kinds on crafted files
        raise CheckpointError(
            f"{name}: not a PyTorch checkpoint (an uncompressed zip file, or PyTorch's format before 1.6); save it "
            "with torch.save"
        ) from problem
    try:
        with memory_errors(name):
            return archive.content(quantized=quantized)
    except OutOfMemoryError:
        raise
    except Exception as problem:  # pickle, zipfile and torch raise many kinds on broken and on hostile files
        raise CheckpointError(
            f"{name}: cannot be read as plain tensors ({first_line(problem)}); it is damaged, or contains objects "
            "with code, which are never loaded; copy it again, or save the state_dict alone where it was made"
        ) from problem


@contextmanager
def memory_errors(name: Path | str) -> Iterator[None]:
    """Turn Python's and PyTorch's errors about memory into an ``OutOfMemoryError`` that names the file.

    Raises:
        OutOfMemoryError: there is not enough memory for the file.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if isinstance(problem, RuntimeError) and "allocate memory" not in str(problem):
            raise
        raise OutOfMemoryError(
            f"{name}: there is not enough memory to read it; free some, or raise ulimit -v"
        ) from problem


def as_weights(tensor: Tensor, name: str, path: Path) -> Tensor:
    """Convert a tensor from a file to float32, if it is complete and finite.

    Check the tensor's shape before, because converting it takes memory.

    Raises:
        CheckpointError: it does not consist of finite floating-point numbers.
        OutOfMemoryError: there is not enough memory for it.
    """
    if tensor.dtype not in _FLOATS:
        raise CheckpointError(f"{path}: tensor {name} is {tensor.dtype}, expected floating-point weights")
    if not 0 < tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: tensor {name} has fewer weights than its shape says; the file is damaged")
    with memory_errors(path):
        weights = tensor.to(torch.float32).contiguous()
        is_finite = bool(weights.isfinite().all())
    if not is_finite:
        raise CheckpointError(
            f"{path}: tensor {name} contains NaN or infinity; the training diverged, or the file is damaged"
        )
    return weights


def quote(value: object) -> str:
    """A name or value from a file, shortened and made safe to print in a message."""
    text = value[:80] if isinstance(value, str) else " ".join(_SHORT.repr(value).split())[:80]
    return text if text.isprintable() else repr(text)


def first_line(problem: Exception) -> str:
    """The first line of an exception's message, shortened."""
    lines = str(problem).strip().splitlines()
    return lines[0][:160] if lines else type(problem).__name__
