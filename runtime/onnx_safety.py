"""Refusing ONNX files that reach outside themselves, by reading just enough of their protobuf encoding."""

from collections.abc import Iterator

from stale_runtime.errors import BundleError

# Which fields of which message lead to a TensorProto, by field number in onnx.proto.
_TENSOR = "tensor"
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 32


def refuse_external_data(model: bytes, name: str) -> None:
    """Make sure that all tensors of an ONNX model are inside the file.

    Args:
        model: the file's content.
        name: how messages call it.

    Raises:
        BundleError: a tensor is kept in another file, or this is not an ONNX model.
    """
    try:
        external = _is_external(memoryview(model), "model", 0)
    except (IndexError, ValueError) as problem:
        raise BundleError(f"{name}: not an ONNX model ({problem}); export the bundle again") from None
    if external:
        raise BundleError(f"{name}: keeps tensors in another file, which is never followed; export the bundle again")


def _is_external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    children = _CHILDREN.get(kind, {})
    for field, value in _fields(message):
        if kind == _TENSOR:
            if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0):
                return True
        elif field in children and isinstance(value, memoryview) and _is_external(value, children[field], depth + 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field numbers of a message, with the bytes of the length-delimited ones and the value of the integers."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield field, value
        elif wire == _BYTES:
            size, at = _varint(message, at)
            if size > len(message) - at:
                raise ValueError("truncated")
            yield field, message[at : at + size]
            at += size
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
