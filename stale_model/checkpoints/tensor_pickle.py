"""Reading the pickles in checkpoints without calling, importing or instantiating anything that they ask for.

Such a pickle can only make numbers, text, lists, dictionaries and descriptions of tensors; the tensors are built
afterwards. Whatever else it asks for becomes a ``SkippedObject``, which only has a name.
"""

import pickle
import pickletools
import sys
from collections import OrderedDict
from io import BytesIO
from typing import IO, Any, NamedTuple, Protocol

import torch
from torch import Tensor

_PIECE = 2**20
_MOST_TUPLES = 50_000
"""A tensor takes four. Hashing tuples nested deeper than this overflows the C stack."""
_OPERATIONS = frozenset(
    (
        *("PROTO", "STOP", "GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID", "MARK"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINSTRING", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    )
)
"""The pickle operations that ``torch.save`` uses."""
_STORED = frozenset(
    (
        *("GLOBAL", "REDUCE", "NEWOBJ", "BINUNICODE", "SHORT_BINSTRING", "EMPTY_LIST", "EMPTY_DICT"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    )
)
"""The operations whose result ``pickle`` stores in its memo."""
_NUMBERS = frozenset(("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT"))


class TensorRecord(NamedTuple):
    """A tensor as a pickle describes it."""

    function: str
    """The function of ``torch._utils`` that would build it."""
    arguments: tuple[Any, ...]

    def __hash__(self) -> int:
        """Refuse to be a key: hashing nested ones that share elements takes exponential time."""
        raise TypeError("a tensor as a key")


class _Recorder(NamedTuple):
    """Stands in for a function of ``torch._utils``. Immutable: a pickle can set attributes of whatever it gets."""

    function: str

    def __call__(self, *arguments: Any) -> TensorRecord:
        return TensorRecord(self.function, arguments)


class _RebuildParameter(NamedTuple):
    """Stands in for the function that makes a parameter of a tensor, which here is the tensor itself."""

    def __call__(self, data: Any, *_: Any) -> "TensorRecord | SkippedObject":
        if not isinstance(data, TensorRecord | SkippedObject):
            raise pickle.UnpicklingError("a parameter that is no tensor")
        return data


class Storage(NamedTuple):
    """The memory of one or several tensors."""

    dtype: torch.dtype
    key: str
    """Its member in the archive."""


class SkippedObject(NamedTuple):
    """Stands in for a class, a function, and whatever these would return. Like any of them it can be called, filled and
    extended, which does nothing.
    """

    name: str
    """Module and name, such as ``argparse Namespace``."""

    def __call__(self, *_: Any) -> "SkippedObject":
        """Stand in for a call."""
        return self

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, *_: Any) -> None:
        pass

    def extend(self, _: Any) -> None:
        """Stand in for the method of a list."""


class _OrderedDict(dict[Any, Any]):
    """Stands in for ``OrderedDict``. Keeps only one attribute, in which PyTorch stores the versions of modules."""

    __slots__ = ("_metadata",)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._metadata = state["_metadata"]


class _MakeOrderedDict(NamedTuple):
    def __call__(self, *lists: list[Any]) -> _OrderedDict:
        """Move the items out of a list, as Python 2 wrote them; copied, a list could fill any amount of memory."""
        made = _OrderedDict()
        for items in lists:
            made.update(items)
            items.clear()
        return made


_REBUILD, _REBUILD_QUANTIZED = "_rebuild_tensor_v2", "_rebuild_qtensor"
_PLAIN: dict[str, Any] = {
    "collections OrderedDict": _MakeOrderedDict(),
    "torch._utils _rebuild_parameter": _RebuildParameter(),
    "torch._utils _rebuild_tensor": _Recorder(_REBUILD),  # until PyTorch 0.3
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
_STANDARD_MODULES = sys.stdlib_module_names | {"__builtin__", "copy_reg"}  # old names, which protocol 2 uses
_BUILTIN_VALUES = ("complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set", "slice", "str")
_STANDARD_VALUES = frozenset(
    (
        *(f"{module} {name}" for module in ("builtins", "__builtin__") for name in (*_BUILTIN_VALUES, "tuple")),
        *("__builtin__ xrange", "_codecs encode", "copyreg _reconstructor", "copy_reg _reconstructor"),
        *("argparse Namespace", "types SimpleNamespace", "decimal Decimal", "functools partial", "uuid UUID"),
        *(f"collections {name}" for name in ("Counter", "defaultdict", "deque")),
        *(f"datetime {name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(f"pathlib {kind}Path" for kind in ("Posix", "PurePosix", "PureWindows", "Windows")),
        *(f"pathlib._local {kind}Path" for kind in ("Posix", "PurePosix", "PureWindows", "Windows")),  # Python 3.13
    )
)
"""What is skipped of Python's own library. The rest of it is refused: pickles that run commands ask for it."""


class StorageReader(Protocol):
    """A file with the memory of tensors in it."""

    size: int
    """Size of the file in bytes."""

    def storage(self, storage: Storage) -> Tensor:
        """All numbers of a storage: (N,)."""


def load_pickle(content: bytes, *, quantized: bool) -> tuple[Any, dict[str, torch.dtype]]:
    """What a pickle describes, in which tensors are still descriptions, and the type of each storage that it names.

    Args:
        content: one pickle, with nothing behind it.
        quantized: whether tensors may be of int8 with scales; if so, nothing is skipped, but refused.

    Raises:
        Exception: the pickle contains anything that ``torch.save`` does not write. ``pickle`` raises many kinds.
    """
    checked = _checked(content)
    unpickler = _Unpickler(checked, _PLAIN | _QUANTIZED if quantized else _PLAIN, skips=not quantized)
    return unpickler.load(), unpickler.types


def build_tensors(described: Any, reader: StorageReader) -> Any:
    """A value with tensors on the CPU instead of their descriptions.

    Raises:
        Exception: a tensor does not fit its storage, or all of them are much larger than the file. PyTorch raises many
            kinds.
    """
    return _Builder(reader).build(described)


def read_exactly(file: IO[bytes], size: int) -> bytearray:
    """The next bytes of a file.

    Raises:
        ValueError: the file has fewer.
    """
    buffer = bytearray(size)
    left = memoryview(buffer)
    while left:
        piece = file.read(min(_PIECE, len(left)))
        if not piece:
            raise ValueError("the file ends too early")
        left[: len(piece)] = piece
        left = left[len(piece) :]
    return buffer


def as_numbers(buffer: bytearray, dtype: torch.dtype, byteorder: str) -> Tensor:
    """The numbers that bytes are, without a copy if they are in this machine's order: (N,)."""
    numbers = torch.frombuffer(buffer, dtype=torch.uint8) if buffer else torch.empty(0, dtype=torch.uint8)
    if byteorder != sys.byteorder:
        numbers = numbers.view(-1, dtype.itemsize).flip(1).flatten()
    return numbers.view(dtype)


class _Unpickler(pickle.Unpickler):
    """Makes plain values and descriptions of tensors, and finds no classes or functions but their stand-ins."""

    def __init__(self, content: bytes, known: dict[str, Any], *, skips: bool) -> None:
        super().__init__(BytesIO(content), encoding="utf-8")
        self._known = known
        self._skips = skips
        self.types: dict[str, torch.dtype] = {}
        """Of each storage that was named."""

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module} {name}"
        if wanted in self._known:
            return self._known[wanted]
        is_refused = module.partition(".")[0] in _STANDARD_MODULES and wanted not in _STANDARD_VALUES
        if is_refused or not self._skips:
            raise pickle.UnpicklingError(f"it asks for {wanted[:80]}")
        return SkippedObject(wanted[:80])

    def persistent_load(self, described: Any) -> Storage | SkippedObject:
        kind, dtype, key, *rest = described
        if isinstance(dtype, SkippedObject) and kind in ("storage", "module"):
            return dtype
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("a persistent id that does not name a storage")
        if rest[2:] not in ([], [None]):
            raise pickle.UnpicklingError("a view of a storage, as only the first versions of PyTorch wrote")
        if self.types.setdefault(key, dtype) != dtype:
            raise pickle.UnpicklingError("a storage of two types")
        return Storage(dtype, key)


class _Builder:
    """Puts tensors in the place of their descriptions."""

    def __init__(self, reader: StorageReader) -> None:
        self._reader = reader
        self._storages: dict[Storage, Tensor] = {}
        self._containers: dict[int, Any] = {}
        self._claimed = 0

    def build(self, value: Any) -> Any:
        """The value with tensors instead of descriptions."""
        if isinstance(value, TensorRecord):
            return self._tensor(value)
        if isinstance(value, SkippedObject):
            return value
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
        storage, offset, size, stride, *more = record.arguments
        if isinstance(storage, SkippedObject):
            return storage
        if storage not in self._storages:
            self._storages[storage] = self._reader.storage(storage)
        tensor = self._storages[storage].as_strided(size, stride, offset)  # refuses what is beyond the storage
        self._claim(tensor.numel() * tensor.element_size())
        if record.function == _REBUILD_QUANTIZED:
            return self._quantized(tensor, *more[0])
        return tensor

    def _quantized(self, integers: Tensor, scheme: Any, *parameters: Any) -> Tensor:
        if scheme == torch.per_tensor_affine:
            return torch._make_per_tensor_quantized_tensor(integers, *parameters)
        scales, zero_points, axis = parameters
        if scales.function != _REBUILD or zero_points.function != _REBUILD:
            raise ValueError("scales that are themselves of int8")
        scales, zero_points = self.build(scales), self.build(zero_points)
        return torch._make_per_channel_quantized_tensor(integers, scales, zero_points, axis)

    def _claim(self, size: int) -> None:
        """Count the memory that the tensors take once each is copied into memory of its own."""
        self._claimed += size
        if self._claimed > 2 * self._reader.size:  # a weight that two layers share counts twice
            raise ValueError(f"its tensors claim more than twice the {self._reader.size:,} bytes of the file")


def _checked(content: bytes) -> bytes:
    """The pickle, if unpickling it takes no more time and memory than its size suggests.

    Hashing nested tuples that share elements takes exponential time, so only tuples of a few numbers may be shared. A
    value may be stored for sharing only where it is made, as ``pickle`` does, so that this sees what it is.
    Objects are made by a call (REDUCE) instead of a class (NEWOBJ), since what stands in for a class is none.

    Raises:
        ValueError: it might take more.
    """
    tuples, made, numbers, is_nested, before = set[object](), 0, 0, False, ""
    checked = bytearray(content)
    argument: Any
    for opcode, argument, position in pickletools.genops(content):
        name = opcode.name
        if name not in _OPERATIONS:
            raise ValueError(f"pickle operation {name}")
        if name == "NEWOBJ" and position is not None:
            checked[position : position + 1] = pickle.REDUCE
        if name.startswith("TUPLE"):
            made += 1
            is_nested = name == "TUPLE" or numbers < int(name[-1])
        if name.endswith("PUT"):
            if before not in _STORED:
                raise ValueError(f"pickle operation {name} after {before}")
            (tuples.add if before.startswith("TUPLE") and is_nested else tuples.discard)(argument)
            if argument > len(content):  # memory is taken for all numbers up to this one
                raise ValueError("a memo larger than the pickle")
        elif name.endswith("GET") and argument in tuples:
            raise ValueError("tuples that are shared")
        numbers = numbers + 1 if name in _NUMBERS else 0
        before = name
    if made > _MOST_TUPLES:
        raise ValueError(f"{made:,} tuples")
    return bytes(checked)
