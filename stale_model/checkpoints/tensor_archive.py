"""Reading what ``torch.save`` writes, without PyTorch's own reader and without executing anything in it.

Readers of zip files disagree about crafted ones: which of two directories counts, or which of two members of a name.
What one reader has checked must therefore not be read again by another, so one reader does both here. The pickle inside
can only make numbers, text, lists, dictionaries and descriptions of tensors; the tensors are built afterwards.
"""

import pickle
import pickletools
import re
import sys
import zipfile
from collections import OrderedDict
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

_MEMBER = re.compile(r"([^/]*)/(data\.pkl|byteorder|data/.+)")
_PIECE = 2**20
_MOST_TUPLES = 50_000
"""A tensor takes four. Hashing tuples nested deeper than this overflows the C stack."""
_OPERATIONS = frozenset(
    (
        *("PROTO", "STOP", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "MARK"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINSTRING", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    )
)
"""The pickle operations that ``torch.save`` uses."""


class TensorRecord(NamedTuple):
    """A tensor as a pickle describes it."""

    function: str
    """The function of ``torch._utils`` that would build it."""
    arguments: tuple[Any, ...]


class _Recorder(NamedTuple):
    """Stands in for a function of ``torch._utils``. Immutable: a pickle can set attributes of whatever it gets."""

    function: str

    def __call__(self, *arguments: Any) -> TensorRecord:
        return TensorRecord(self.function, arguments)


class _Storage(NamedTuple):
    """The memory of one or several tensors."""

    dtype: torch.dtype
    key: str
    """Its member in the archive."""


class _OrderedDict(dict[Any, Any]):
    """Stands in for ``OrderedDict``. Keeps only one attribute, in which PyTorch stores the versions of modules."""

    __slots__ = ("_metadata",)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._metadata = state["_metadata"]


class _MakeOrderedDict(NamedTuple):
    def __call__(self, *arguments: Any) -> _OrderedDict:
        return _OrderedDict(*arguments)


_REBUILD, _REBUILD_PARAMETER, _REBUILD_QUANTIZED = "_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_qtensor"
_PLAIN: dict[str, Any] = {
    "collections OrderedDict": _MakeOrderedDict(),
    "torch._utils _rebuild_parameter": _Recorder(_REBUILD_PARAMETER),
    "torch._utils _rebuild_tensor_v2": _Recorder(_REBUILD),
    "torch BFloat16Storage": torch.bfloat16,
    "torch BoolStorage": torch.bool,
    "torch ByteStorage": torch.uint8,
    "torch CharStorage": torch.int8,
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch IntStorage": torch.int32,
    "torch LongStorage": torch.int64,
    "torch ShortStorage": torch.int16,
}
_QUANTIZED: dict[str, Any] = {
    "torch._utils _rebuild_qtensor": _Recorder(_REBUILD_QUANTIZED),
    "torch QInt8Storage": torch.int8,
    "torch per_channel_affine": torch.per_channel_affine,
    "torch per_tensor_affine": torch.per_tensor_affine,
    "torch qint8": torch.qint8,
}


class TensorArchive:
    """The members of a checkpoint's zip file."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the directory, and the pickle.

        Args:
            file: what ``torch.save`` wrote, at any position. It has to stay open while the content is read.

        Raises:
            Exception: it is not such a zip file, is compressed, or has members that share bytes. ``zipfile`` raises
                many kinds.
        """
        self.size = file.seek(0, 2)
        self._archive = zipfile.ZipFile(file)
        named = [(found, entry) for entry in self._archive.infolist() if (found := _MEMBER.fullmatch(entry.filename))]
        self._members = {found[2]: entry for found, entry in named}
        if len(self._members) != len(named) or len({found[1] for found, _ in named}) != 1:
            raise ValueError("two members with one name, or members of several folders")
        if any(entry.compress_type != zipfile.ZIP_STORED for _, entry in named):
            raise ValueError("compressed")
        if sum(entry.file_size for _, entry in named) > self.size:
            raise ValueError("members that share bytes")
        self._pickle = self._archive.read(self._members["data.pkl"])

    def content(self, *, quantized: bool) -> Any:
        """Tensors on the CPU, and plain values.

        Args:
            quantized: whether tensors may be of int8 with scales.

        Raises:
            Exception: the pickle contains anything else, or does not fit the members. ``pickle`` and PyTorch raise many
                kinds.
        """
        _refuse_unusual_operations(self._pickle)
        described = _Unpickler(self._pickle, _PLAIN | _QUANTIZED if quantized else _PLAIN).load()
        return _Builder(self).build(described)

    def storage(self, storage: _Storage) -> Tensor:
        """All numbers of a storage: (N,)."""
        entry = self._members[f"data/{storage.key}"]
        buffer = bytearray(entry.file_size)
        left = memoryview(buffer)
        with self._archive.open(entry) as member:
            while left:
                piece = member.read(min(_PIECE, len(left)))  # the last one also compares the checksum
                if not piece:
                    raise ValueError("the file ends before its directory says")
                left[: len(piece)] = piece
                left = left[len(piece) :]
        numbers = torch.frombuffer(buffer, dtype=torch.uint8) if buffer else torch.empty(0, dtype=torch.uint8)
        if self._is_swapped():
            numbers = numbers.view(-1, storage.dtype.itemsize).flip(1).flatten()
        return numbers.view(storage.dtype)

    def _is_swapped(self) -> bool:
        """Whether numbers were written by a machine of the other byte order."""
        entry = self._members.get("byteorder")
        return entry is not None and self._archive.read(entry).decode() != sys.byteorder


class _Unpickler(pickle.Unpickler):
    """Makes plain values and descriptions of tensors, and finds no classes or functions but their stand-ins."""

    def __init__(self, content: bytes, known: dict[str, Any]) -> None:
        super().__init__(BytesIO(content), encoding="utf-8")
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._known[f"{module} {name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {f'{module} {name}'[:80]}") from None

    def persistent_load(self, described: Any) -> _Storage:
        kind, dtype, key, *_ = described
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("a persistent id that does not name a storage")
        return _Storage(dtype, key)


class _Builder:
    """Puts tensors in the place of their descriptions."""

    def __init__(self, archive: TensorArchive) -> None:
        self._archive = archive
        self._storages: dict[_Storage, Tensor] = {}
        self._containers: dict[int, Any] = {}
        self._claimed = 0

    def build(self, value: Any) -> Any:
        """The value with tensors instead of descriptions."""
        if isinstance(value, TensorRecord):
            return self._tensor(value)
        if isinstance(value, tuple):
            return tuple(map(self.build, value))
        if not isinstance(value, dict | list):
            return value
        if id(value) not in self._containers:  # one that occurs in several places is built once
            made: Any = OrderedDict() if isinstance(value, _OrderedDict) else type(value)()
            self._containers[id(value)] = made
            if isinstance(value, list):
                made.extend(map(self.build, value))
            else:
                made.update((key, self.build(item)) for key, item in value.items())
            if hasattr(value, "_metadata"):
                made._metadata = self.build(value._metadata)
        return self._containers[id(value)]

    def _tensor(self, record: TensorRecord) -> Any:
        if record.function == _REBUILD_PARAMETER:
            return self.build(record.arguments[0])
        storage, offset, size, stride, *more = record.arguments
        if storage not in self._storages:
            self._storages[storage] = self._archive.storage(storage)
        tensor = self._storages[storage].as_strided(size, stride, offset)  # refuses what is beyond the storage
        self._claim(tensor.numel() * tensor.element_size())
        if record.function == _REBUILD_QUANTIZED:
            return self._quantized(tensor, *more[0])
        return tensor

    def _quantized(self, integers: Tensor, scheme: Any, *parameters: Any) -> Tensor:
        if scheme == torch.per_tensor_affine:
            return torch._make_per_tensor_quantized_tensor(integers, *parameters)
        scales, zero_points, axis = map(self.build, parameters)
        return torch._make_per_channel_quantized_tensor(integers, scales, zero_points, axis)

    def _claim(self, size: int) -> None:
        """Count the memory that the tensors take once each is copied into memory of its own."""
        self._claimed += size
        if self._claimed > 2 * self._archive.size:  # a weight that two layers share counts twice
            raise ValueError(f"its tensors claim more than twice the {self._archive.size:,} bytes of the file")


def _refuse_unusual_operations(content: bytes) -> None:
    """Make sure that unpickling takes no more time and memory than the pickle's size suggests.

    Hashing nested tuples that share elements takes exponential time. The pickles of tensors share no tuples.

    Raises:
        ValueError: it might take more.
    """
    tuples, made, before = set[object](), 0, ""
    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name not in _OPERATIONS:
            raise ValueError(f"pickle operation {name}")
        made += name.startswith("TUPLE")
        if name.endswith("PUT"):
            (tuples.add if before.startswith("TUPLE") else tuples.discard)(argument)
            if argument > len(content):  # memory is taken for all numbers up to this one
                raise ValueError("a memo larger than the pickle")
        elif name.endswith("GET") and argument in tuples:
            raise ValueError("tuples that are shared")
        before = name
    if made > _MOST_TUPLES:
        raise ValueError(f"{made:,} tuples")
