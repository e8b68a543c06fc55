"""Building dataclasses from parsed JSON, exactly as their annotations say."""

import reprlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_type_hints: Callable[[Any], dict[str, Any]] = cache(typing.get_type_hints)
"""The annotations of a class; reading them again for each of many objects takes longer than building these."""


def build(kind: type[T], content: Any) -> T:
    """Turn parsed JSON into a dataclass.

    Args:
        kind: its fields may be annotated with plain types, other such dataclasses, ``tuple[X, ...]``,
            ``Mapping[str, X]``, unions of plain types, and ``Any``.
        content: parsed JSON; integers are accepted for floats.

    Raises:
        ValueError: a field is missing, unknown, or of the wrong type; the message says where.
    """
    built = _build(kind, content, "")
    assert isinstance(built, kind)
    return built


def _build(expected: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if expected is Any:
        return value
    if origin in (typing.Union, types.UnionType) and value is not None and is_dataclass(arguments[0]):
        return _build(arguments[0], value, where)
    if is_dataclass(expected):
        hints = _type_hints(expected)
        names = {field.name for field in fields(expected)}
        if not isinstance(value, dict) or value.keys() != names:
            got = ", ".join(sorted(value))[:200] if isinstance(value, dict) else type(value).__name__
            wanted = ", ".join(sorted(names))
            raise ValueError(f"{where or 'top level'} has {got}, expected {wanted}")
        built = {name: _build(hints[name], value[name], f"{where}.{name}".lstrip(".")) for name in hints}
        return expected(**built)  # type: ignore[operator]
    kinds = arguments if origin in (typing.Union, types.UnionType) else (expected,)
    for kind in kinds:
        inner = typing.get_args(kind)
        if typing.get_origin(kind) is tuple and isinstance(value, list):
            return tuple(_build(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if typing.get_origin(kind) is Mapping and isinstance(value, dict):
            return {key: _build(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if float in kinds and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) in kinds:
        return value
    shown = value if isinstance(value, str) else reprlib.repr(value)  # repr would build all of a huge value
    raise ValueError(f"{where[:200]} is {shown[:60]!r}, expected {expected}")
