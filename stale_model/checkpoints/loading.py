"""Getting tensors and plain values out of a file without executing anything in it."""

import hashlib
import pickletools
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

import torch
from torch import Tensor

from stale_model.checkpoints.plain_zip import open_plain_zip
from stale_runtime.errors import CheckpointError, OutOfMemoryError
from stale_runtime.system.files import open_without_blocking, reason, refuse_irregular

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_STORAGES = ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
_PLAIN = {
    "collections OrderedDict",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in _STORAGES),
}
"""What tensors and plain values are made with. PyTorch allows more, also what takes any amount of memory."""
_QUANTIZED = {
    "torch._utils _rebuild_qtensor",
    "torch QInt8Storage",
    "torch per_channel_affine",
    "torch per_tensor_affine",
    "torch qint8",
}


class Loaded(NamedTuple):
    """A checkpoint file."""

    content: Any
    """Tensors on the CPU, and plain values."""
    sha256: str
    """Of the file."""
    size: int
    """Of the file, in bytes."""


def load_plain(path: Path, *, quantized: bool = False) -> Loaded:
    """Read what ``torch.save`` wrote, tensors and plain values only.

    Args:
        path: the file.
        quantized: whether tensors may be of int8.

    Raises:
        CheckpointError: it cannot be read, is compressed, truncated, or holds objects with code.
        OutOfMemoryError: there is not enough memory for it.
    """
    try:
        with open(path, "rb", opener=open_without_blocking) as file:
            refuse_irregular(file.fileno(), path, CheckpointError)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            return Loaded(plain_content(file, str(path), quantized=quantized), sha256, size)
    except OSError as problem:
        raise CheckpointError(f"{path}: {reason(problem)}") from problem


def plain_content(file: BinaryIO, name: str, *, quantized: bool = False) -> Any:
    """The same of a file that is open, wherever it stands.

    Args:
        file: what ``torch.save`` wrote.
        name: how messages call it.
        quantized: whether PyTorch's quantized tensors may be in it.

    Raises:
        CheckpointError: it cannot be read, is compressed, truncated, or holds objects with code.
        OutOfMemoryError: there is not enough memory for it.
    """
    try:
        archive = open_plain_zip(file)
    except Exception as problem:  # zipfile raises many kinds on crafted files
        raise CheckpointError(
            f"{name}: not a PyTorch checkpoint (an uncompressed zip file); save it with torch.save"
        ) from problem
    try:
        with memory_errors(name):
            _refuse_bombs(archive.pickle, _PLAIN | _QUANTIZED if quantized else _PLAIN)
            content = torch.load(cast("IO[bytes]", archive.file), map_location="cpu", weights_only=True)
    except OutOfMemoryError:
        raise
    except Exception as problem:  # torch raises many kinds on broken and on hostile files
        raise CheckpointError(
            f"{name}: cannot be read as plain tensors ({first_line(problem)}); it is truncated, or holds objects "
            "with code, which are never loaded"
        ) from problem
    claimed = _claimed_bytes(content)
    if claimed > 2 * archive.size:  # a weight that two layers share counts twice
        raise CheckpointError(
            f"{name}: its tensors claim {claimed:,} bytes, the file has {archive.size:,}; it is damaged"
        )
    return content


@contextmanager
def memory_errors(name: Path | str) -> Iterator[None]:
    """Say of a file that there is not enough memory for it, where Python or PyTorch find out.

    Raises:
        OutOfMemoryError: there is not.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if isinstance(problem, RuntimeError) and "allocate memory" not in str(problem):
            raise
        raise OutOfMemoryError(
            f"{name}: there is not enough memory to read it; free some, or raise ulimit -v"
        ) from problem


def usable(tensor: Tensor, name: str, path: Path) -> Tensor:
    """A tensor of a file as weights: dense, of float32, finite. Check its shape before: this takes memory.

    Raises:
        CheckpointError: it cannot be that.
        OutOfMemoryError: there is not enough memory for it.
    """
    if tensor.dtype not in _FLOATS or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        raise CheckpointError(f"{path}: tensor {name} is {tensor.dtype}, expected dense floating-point weights")
    if not 0 < tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: tensor {name} has fewer weights than its shape says; the file is damaged")
    with memory_errors(path):
        weights = tensor.detach().to(torch.float32).contiguous()
        is_finite = bool(weights.isfinite().all())
    if not is_finite:
        raise CheckpointError(f"{path}: tensor {name} holds NaN or infinity; training diverged, or the file is damaged")
    return weights


def shown(value: object) -> str:
    """A name or value from a file, fit for a message."""
    text = value[:80] if isinstance(value, str) else " ".join(reprlib.repr(value).split())[:80]
    return text if text.isprintable() else repr(text)


def first_line(problem: Exception) -> str:
    """What an exception says first, not too long for a message."""
    lines = str(problem).strip().splitlines()
    return lines[0][:160] if lines else type(problem).__name__


def _refuse_bombs(content: bytes, allowed: set[str]) -> None:
    """Make sure that a pickle takes no more time and memory than its size lets expect.

    A tuple that is put into others twice, they again, and so on, takes years to hash; pickles of tensors share none.

    Raises:
        ValueError: it may.
    """
    tuples = set[object]()
    before = ""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "GLOBAL" and argument not in allowed:
            raise ValueError(f"it asks for {str(argument)[:80]}")
        if opcode.name.endswith("PUT"):
            (tuples.add if before.startswith("TUPLE") else tuples.discard)(argument)
        elif opcode.name.endswith("GET") and argument in tuples:
            raise ValueError("tuples that are shared")
        before = opcode.name


def _claimed_bytes(content: Any) -> int:
    """What all tensors would take if each had its own memory: thousands can be one storage, until they are copied."""
    claimed, seen, left = 0, set[int](), [content]
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            claimed += value.numel() * value.element_size()
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            left += [*value, *value.values()] if isinstance(value, dict) else value
    return claimed
