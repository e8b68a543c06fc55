"""Getting tensors and plain values out of a file without executing anything in it."""

import hashlib
import io
import pickletools
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from stale_runtime.errors import CheckpointError
from stale_runtime.files import open_without_blocking, reason, refuse_irregular

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
    """
    pickles = _pickles(file)
    if pickles is None:
        raise CheckpointError(f"{name}: not a PyTorch checkpoint (an uncompressed zip file); save it with torch.save")
    try:
        for content in pickles:
            _refuse_bombs(content, _PLAIN | _QUANTIZED if quantized else _PLAIN)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch raises many kinds on broken and on hostile files
        raise CheckpointError(
            f"{name}: cannot be read as plain tensors ({first_line(problem)}); it is truncated, or holds objects "
            "with code, which are never loaded"
        ) from problem


def usable(tensor: Tensor, name: str, path: Path) -> Tensor:
    """A tensor of a file as weights: dense, of float32, finite.

    Raises:
        CheckpointError: it cannot be that.
    """
    if tensor.dtype not in _FLOATS or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        raise CheckpointError(f"{path}: tensor {name} is {tensor.dtype}, expected dense floating-point weights")
    if not 0 < tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: tensor {name} has fewer weights than its shape says; the file is damaged")
    weights = tensor.detach().to(torch.float32).contiguous()
    if not weights.isfinite().all():
        raise CheckpointError(f"{path}: tensor {name} holds NaN or infinity; training diverged, or the file is damaged")
    return weights


def first_line(problem: Exception) -> str:
    """What an exception says first, not too long for a message."""
    lines = str(problem).strip().splitlines()
    return lines[0][:160] if lines else type(problem).__name__


def _pickles(file: BinaryIO) -> list[bytes] | None:
    """The pickles in a zip file, or None if it is none, is compressed, or has members that share bytes."""
    size = file.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or sum(member.file_size for member in members) > size:
                return None
            return [archive.read(member) for member in members if member.filename.lower().endswith(".pkl")]
    except Exception:  # zipfile raises many kinds on crafted files
        return None


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
