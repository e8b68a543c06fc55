"""Refusing ONNX files that could do more than compute, by reading just enough of their protobuf encoding.

ONNX Runtime sees a file only if every tensor is inside it and as large as its shape says, every operator is one of
ONNX's own, and nothing is in it that ``stale-export`` never writes: functions, which expand without bound, sparse
tensors, which are as large as they declare, types other than tensors, training steps.
"""

import math
from typing import TypeAlias

from stale_runtime.errors import BundleError

Fields: TypeAlias = "dict[int, list[memoryview | int | bytes]]"
"""Of a message, by number: a view of the length-delimited ones, value of the integers, bytes of those of fixed size."""

LARGEST_SHAPE = 2**31
"""Numbers that an input, output or intermediate may declare."""
_DOMAINS = (b"", b"ai.onnx")
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Of a tensor's numbers, by data type."""
_TYPED_DATA = (4, 5, 7, 10, 11)
"""Fields of a tensor."""
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
"""Bytes of a value, by wire type."""
_DEEPEST = 32
_MOST_FIELDS = 2**20
_MOST_AXES = 16
_LONGEST_SHAPE = 10 * _MOST_AXES
"""Bytes of a packed shape."""


class _UnsafeError(Exception):
    """A model that is well-formed and will not be run."""


def refuse_unsafe(model: bytes, name: str) -> None:
    """Make sure that an ONNX model does nothing but compute on what is inside the file.

    Args:
        model: the file's content.
        name: how messages call it.

    Raises:
        BundleError: it does more, declares what it cannot hold, or is not an ONNX model.
    """
    try:
        fields = _parse(memoryview(model))
        _refuse(fields, {20: "training steps", 25: "functions of its own"})
        _check_graph(_only(fields, 7), 0)
    except ValueError as problem:
        raise BundleError(f"{name}: not an ONNX model ({problem}); export the bundle again") from None
    except _UnsafeError as problem:
        raise BundleError(f"{name}: {problem}; export the bundle again") from None


def _check_graph(graph: memoryview | None, depth: int) -> None:
    if graph is None:
        return
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    fields = _parse(graph)
    _refuse(fields, {15: "sparse tensors"})
    for tensor in _messages(fields, 5):
        _check_tensor(tensor)
    for number in (11, 12, 13):  # inputs, outputs, intermediates
        for value in map(_parse, _messages(fields, number)):
            for name in _messages(value, 1):
                _check_name(name)
            _check_type(_only(value, 2))
    for node in _messages(fields, 1):
        _check_node(_parse(node), depth)


def _check_node(fields: Fields, depth: int) -> None:
    for domain in _messages(fields, 7):
        if bytes(domain) not in _DOMAINS:
            raise _UnsafeError(f"uses operators of {_text(domain)!r}, expected none but ONNX's own")
    for attribute in map(_parse, _messages(fields, 5)):
        _refuse(attribute, {14: "types", 15: "types", 22: "sparse tensors", 23: "sparse tensors"})
        one = _only(attribute, 5)
        for tensor in [*([one] if one is not None else []), *_messages(attribute, 10)]:
            _check_tensor(tensor)
        for graph in [_only(attribute, 6), *_messages(attribute, 11)]:
            _check_graph(graph, depth + 1)


def _check_tensor(tensor: memoryview) -> None:
    fields = _parse(tensor)
    if 13 in fields or any(fields.get(14, ())):
        raise _UnsafeError("keeps tensors in another file, which is never followed")
    dims = _shape(_integers(fields, 1))
    kind = _number(fields, 2)
    if kind not in _ITEM_BYTES:
        raise _UnsafeError(f"has a tensor of data type {kind}, expected plain numbers")
    size = math.prod(dims) * _ITEM_BYTES[kind]
    raw = _messages(fields, 9)
    # A number in one of the typed fields takes a byte at least.
    typed = sum(
        len(part) if isinstance(part, memoryview) else 1 for n in (4, 5, 7, 10, 11) for part in fields.get(n, ())
    )
    fits = size == len(raw[-1]) if raw else math.prod(dims) <= typed
    if not fits:
        name = _text(_messages(fields, 8)[-1]) if 8 in fields else ""
        raise _UnsafeError(f"declares tensor {name!r} of shape {dims}, and does not hold so many numbers")


def _check_name(name: memoryview) -> None:
    try:
        bytes(name).decode()
    except UnicodeDecodeError:
        raise _UnsafeError(f"has a value called {_text(name)!r}, expected UTF-8") from None


def _check_type(kind: memoryview | None) -> None:
    """Args: kind: of a graph's input, output or intermediate."""
    fields = _parse(kind or memoryview(b""))
    _refuse(fields, {4: "sequences", 5: "maps", 7: "opaque types", 8: "sparse tensors", 9: "optional values"})
    shape = _only(_parse(_only(fields, 1) or memoryview(b"")), 2)
    axes = [_number(_parse(axis), 1) for axis in _messages(_parse(shape or memoryview(b"")), 1)]
    dims = _shape([dim for dim in axes if dim is not None])
    if math.prod(dims) > LARGEST_SHAPE:
        raise _UnsafeError(f"declares a value of shape {dims}, expected at most {LARGEST_SHAPE:,} numbers")


def _shape(dims: list[int]) -> tuple[int, ...]:
    if len(dims) > _MOST_AXES or any(dim >= 2**63 for dim in dims):
        raise _UnsafeError(f"declares a shape of {len(dims)} axes, or of negative size")
    return tuple(dims)


def _refuse(fields: Fields, unwanted: dict[int, str]) -> None:
    for number, what in unwanted.items():
        if number in fields:
            raise _UnsafeError(f"has {what}, which are never run")


def _messages(fields: Fields, number: int) -> list[memoryview]:
    values = fields.get(number, [])
    found = [value for value in values if isinstance(value, memoryview)]
    if len(found) != len(values):
        raise ValueError(f"field {number} is a number")
    return found


def _only(fields: Fields, number: int) -> memoryview | None:
    """A message that may be there once: protobuf would merge several, and what is in one may hide behind another."""
    found = _messages(fields, number)
    if len(found) > 1:
        raise ValueError(f"field {number} is there twice")
    return found[0] if found else None


def _integers(fields: Fields, number: int) -> list[int]:
    """Integers, packed or not."""
    values: list[int] = []
    for value in fields.get(number, ()):
        if isinstance(value, int):
            values.append(value)
            continue
        if isinstance(value, bytes) or len(value) > _LONGEST_SHAPE:
            raise ValueError(f"field {number} has {len(value)} bytes")
        at = 0
        while at < len(value):
            integer, at = _varint(value, at)
            values.append(integer)
    return values


def _number(fields: Fields, number: int) -> int | None:
    """An integer that may be there once, and not packed, which protobuf would not take for it."""
    values = fields.get(number, [])
    if len(values) > 1 or not all(isinstance(value, int) for value in values):
        raise ValueError(f"field {number} is no number, or there twice")
    return next((value for value in values if isinstance(value, int)), None)


def _parse(message: memoryview) -> Fields:
    fields: Fields = {}
    at = count = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        count += 1
        if not 0 < field < 2**29 or count > _MOST_FIELDS:  # a key beyond 32 bits is another's to some parsers
            raise ValueError(f"field {field} as number {count}")
        if wire == _VARINT:
            value, at = _varint(message, at)
            fields.setdefault(field, []).append(value)
            continue
        size = _FIXED.get(wire)
        if wire == _BYTES:
            size, at = _varint(message, at)
        if size is None or size > len(message) - at:
            raise ValueError(f"wire type {wire}" if size is None else "truncated")
        content = message[at : at + size]
        fields.setdefault(field, []).append(content if wire == _BYTES else bytes(content))
        at += size
    return fields


def _varint(message: memoryview, at: int) -> tuple[int, int]:
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
