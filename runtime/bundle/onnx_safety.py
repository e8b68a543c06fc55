"""Refusing ONNX files that could do more than compute.

ONNX Runtime sees a file only if every tensor is inside it and as large as its shape says, every operator is one of
ONNX's own, and it contains nothing that ``stale-export`` never writes: functions, which expand without bound; sparse
tensors, which are as large as they declare; types other than tensors; training steps.

The protobuf encoding is read here because the ``protobuf`` package would cost each run 80 ms to import and 15 ms to
copy the tensors; this module takes 2 ms.

Operators that repeat a part of the graph as often as a value says could go on for ever. Towers have none; a localizer
has ``Loop``, for attention over long videos. What a graph takes while it runs is limited by ``open_session``; refused
here are only the operators whose memory that does not see.
"""

import math
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TypeAlias

from stale_runtime.errors import COPY_AGAIN, BundleError

LARGEST_SHAPE = 2**31
"""Numbers that an input, output or intermediate may declare."""
_SCHEMA = {
    "Model": {7: "graph", 20: "training_info", 25: "functions"},
    "Graph": {1: "node", 5: "initializer", 11: "input", 12: "output", 13: "value_info", 15: "sparse_initializer"},
    "Node": {2: "output", 4: "op_type", 5: "attribute", 7: "domain"},
    "Attribute": {1: "name", 5: "t", 6: "g", 10: "tensors", 11: "graphs", 14: "tp", 15: "type_protos"}
    | {22: "sparse_tensor", 23: "sparse_tensors"},
    "Tensor": {1: "dims", 2: "data_type", 8: "name", 9: "raw_data", 13: "external_data", 14: "data_location"}
    | {4: "float_data", 5: "int32_data", 7: "int64_data", 10: "double_data", 11: "uint64_data"},
    "Value": {1: "name", 2: "type"},
    "Type": {1: "tensor_type", 4: "sequence_type", 5: "map_type", 7: "opaque_type"}
    | {8: "sparse_tensor_type", 9: "optional_type"},
    "TensorType": {2: "shape"},
    "Shape": {1: "dim"},
    "Dimension": {1: "dim_value"},
}
"""The fields that are read or refused, by message and number, named as in ``onnx.proto``; others are skipped."""
_SINGLE = {"graph", "t", "g", "data_type", "type", "tensor_type", "shape", "dim_value"}
"""Fields that may occur only once: protobuf would merge several, and one could hide behind another."""
_SPARSE = "has sparse tensors, which are never run"
_REFUSED = {
    "training_info": "has training steps, which are never run",
    "functions": "has functions of its own, which are never run",
    "external_data": "keeps tensors in another file, which is never read",
    **dict.fromkeys(("sparse_initializer", "sparse_tensor", "sparse_tensors", "sparse_tensor_type"), _SPARSE),
    **dict.fromkeys(("tp", "type_protos"), "has types as attributes, which are never run"),
    **dict.fromkeys(("sequence_type", "map_type", "opaque_type", "optional_type"), "has values other than tensors"),
}
"""The error for a model that has the field."""
_TYPED_DATA = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_DOMAINS = (b"", b"ai.onnx")
_LOOP, _OTHER_LOOPS = b"Loop", (b"Scan", b"SequenceMap")
_UNLIMITED: tuple[bytes, ...] = (b"NonZero", b"Unique", b"NonMaxSuppression", b"RoiAlign", b"TfIdfVectorizer")
_UNLIMITED += (b"StringConcat", b"StringSplit", b"StringNormalizer", b"RegexFullMatch", b"SequenceInsert")
"""Operators that take many times the memory of their tensors outside the arena, which alone has a limit."""
_TEXTS = (b"value_string", b"value_strings")
"""Attributes of constants that are text, which is outside the arena, too; no other operator makes long ones."""
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Size of one of a tensor's numbers, by data type."""
_Value: TypeAlias = int | memoryview | bytes
"""The value of a field: an integer; a message, text or packed numbers; or a number of fixed size."""
_EMPTY = memoryview(b"")
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
"""Size of a value, by wire type."""
_DEEPEST = 32
_MOST_FIELDS = 2**20
_MOST_AXES = 16


class _UnsafeError(Exception):
    """A well-formed model that is refused."""


def refuse_unsafe(model: bytes, name: str, *, loops: bool = True) -> None:
    """Make sure that an ONNX model only computes, and reads nothing outside its file.

    Args:
        model: the file's content.
        name: name of the file, for messages.
        loops: whether it may have ``Loop``, as a localizer has.

    Raises:
        BundleError: it does more, declares tensors larger than those it contains, or is not an ONNX model.
    """
    refused = _OTHER_LOOPS if loops else (_LOOP, *_OTHER_LOOPS)
    try:
        for graph in _Message("Model", memoryview(model)).children("graph", "Graph"):
            _check_graph(graph, 0, refused)
    except ValueError as problem:
        raise BundleError(f"{name}: not an ONNX model ({problem}); {COPY_AGAIN}") from None
    except _UnsafeError as problem:
        raise BundleError(f"{name}: {problem}; {COPY_AGAIN}") from None


class _Message:
    """The fields of a protobuf message that are in ``_SCHEMA``, by name."""

    def __init__(self, kind: str, data: memoryview = _EMPTY) -> None:
        self._fields: dict[str, list[_Value]] = {}
        for number, value in _read_fields(data):
            name = _SCHEMA[kind].get(number, "")
            if name in _REFUSED:
                raise _UnsafeError(_REFUSED[name])
            if name in _SINGLE and name in self._fields:
                raise ValueError(f"{name} occurs twice")
            if name:
                self._fields.setdefault(name, []).append(value)

    def values(self, name: str) -> list[_Value]:
        """The values of a field, as they are encoded."""
        return self._fields.get(name, [])

    def parts(self, name: str) -> list[memoryview]:
        """The messages or texts of a field."""
        found = [value for value in self.values(name) if isinstance(value, memoryview)]
        if len(found) != len(self.values(name)):
            raise ValueError(f"{name} is a number")
        return found

    def children(self, name: str, kind: str) -> Iterator["_Message"]:
        """The messages of a field, with their fields."""
        return (_Message(kind, part) for part in self.parts(name))

    def child(self, name: str, kind: str) -> "_Message":
        """The message of a field that may occur once; an empty message if the field is absent."""
        return next(self.children(name, kind), _Message(kind))

    def integer(self, name: str) -> int | None:
        """The integer of a field that may occur once; None if the field is absent."""
        value = next(iter(self.values(name)), None)
        if not isinstance(value, int | None):
            raise ValueError(f"{name} is not an integer")
        return value

    def integers(self, name: str) -> Iterator[int]:
        """The integers of a field, packed or not."""
        for value in self.values(name):
            if isinstance(value, bytes):
                raise ValueError(f"{name} is not an integer")
            if isinstance(value, int):
                yield value
                continue
            at = 0
            while at < len(value):
                integer, at = _read_varint(value, at)
                yield integer


def _check_graph(graph: _Message, depth: int, refused: Collection[bytes]) -> None:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    for tensor in graph.children("initializer", "Tensor"):
        _check_tensor(tensor)
    for name in ("input", "output", "value_info"):
        for value in graph.children(name, "Value"):
            _check_value(value)
    for node in graph.children("node", "Node"):
        for domain in node.parts("domain"):
            if bytes(domain) not in _DOMAINS:
                raise _UnsafeError(f"uses operators of {_text(domain)!r}, expected only ONNX's own")
        for operator in node.parts("op_type"):
            if bytes(operator) in refused:
                raise _UnsafeError(f"has a loop ({_text(operator)}), which could go on for ever and is never run")
            if bytes(operator) == _LOOP and len(node.parts("output")) > 1:  # even empty ones take memory in each turn
                raise _UnsafeError("has a loop with several outputs, whose memory has no limit, and which is never run")
            if bytes(operator) in _UNLIMITED:
                raise _UnsafeError(f"uses {_text(operator)}, whose memory has no limit, and which is never run")
        for attribute in node.children("attribute", "Attribute"):
            if any(bytes(name) in _TEXTS for name in attribute.parts("name")):
                raise _UnsafeError("has text among its values, which is never run")
            for name in ("t", "tensors"):
                for tensor in attribute.children(name, "Tensor"):
                    _check_tensor(tensor)
            for name in ("g", "graphs"):
                for inner in attribute.children(name, "Graph"):
                    _check_graph(inner, depth + 1, refused)


def _check_tensor(tensor: _Message) -> None:
    if any(tensor.values("data_location")):
        raise _UnsafeError(_REFUSED["external_data"])
    dims, kind = _checked_shape(tensor.integers("dims")), tensor.integer("data_type")
    if kind not in _ITEM_BYTES:
        raise _UnsafeError(f"has a tensor of data type {kind}, expected plain numbers")
    if raw := tensor.parts("raw_data"):
        fits = math.prod(dims) * _ITEM_BYTES[kind] == len(raw[-1])
    else:  # a packed number takes at least one byte
        typed = (value for name in _TYPED_DATA for value in tensor.values(name))
        fits = math.prod(dims) <= sum(len(value) if isinstance(value, memoryview) else 1 for value in typed)
    if not fits:
        name = _text((tensor.parts("name") or [_EMPTY])[-1])
        raise _UnsafeError(f"declares tensor {name!r} of shape {dims}, but does not contain that many numbers")


def _check_value(value: _Message) -> None:
    """Check an input, output or intermediate of a graph."""
    for name in value.parts("name"):
        try:
            bytes(name).decode()
        except UnicodeDecodeError:
            raise _UnsafeError(f"has a value called {_text(name)!r}, expected UTF-8") from None
    shape = value.child("type", "Type").child("tensor_type", "TensorType").child("shape", "Shape")
    axes = (axis.integer("dim_value") for axis in shape.children("dim", "Dimension"))
    dims = _checked_shape(dim for dim in axes if dim is not None)
    if math.prod(dims) > LARGEST_SHAPE:
        raise _UnsafeError(f"declares a value of shape {dims}, expected at most {LARGEST_SHAPE:,} numbers")


def _checked_shape(dims: Iterable[int]) -> tuple[int, ...]:
    shape = tuple(islice(dims, _MOST_AXES + 1))
    if len(shape) > _MOST_AXES or any(dim >= 2**63 for dim in shape):
        raise _UnsafeError(f"declares a shape of more than {_MOST_AXES} axes, or of negative size")
    return shape


def _read_fields(message: memoryview) -> Iterator[tuple[int, _Value]]:
    """The fields of a protobuf message, as number and value."""
    at = count = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        field, wire = key >> 3, key & 7
        count += 1
        if not 0 < field < 2**29 or count > _MOST_FIELDS:  # parsers read keys beyond 32 bits differently
            raise ValueError(f"field {field} at position {count}")
        if wire == _VARINT:
            value, at = _read_varint(message, at)
            yield field, value
            continue
        size = _FIXED_BYTES.get(wire)
        if wire == _LENGTH_DELIMITED:
            size, at = _read_varint(message, at)
        if size is None or size > len(message) - at:
            raise ValueError(f"wire type {wire}" if size is None else "truncated")
        content = message[at : at + size]
        yield field, content if wire == _LENGTH_DELIMITED else bytes(content)
        at += size


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """An integer of variable length, and the place after it."""
    if at < len(message) and message[at] < 0x80:  # most take one byte
        return message[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at == len(message):
            raise ValueError("truncated")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80 and value < 2**64:
            return value, at
    raise ValueError("a number of more than 64 bits")


def _text(data: memoryview) -> str:
    return bytes(data[:60]).decode(errors="replace")
