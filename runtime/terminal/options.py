"""Types of command-line options that click does not have."""

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click

from stale_runtime.bundle import layout
from stale_runtime.inference import windows

MOST_TIOUS = 1000
MOST_LENGTHS = 4096
PATH = click.Path(path_type=Path, readable=False)
"""A path, whether it exists or not: the code that reads it gives better error messages than click."""


class Number(click.FloatRange):
    """A number in a range, never NaN, which click accepts in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the option's value.

        Raises:
            click.BadParameter: it is not a number in the range.
        """
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


class _NamedType(click.ParamType):  # type: ignore[type-arg]
    """An option type whose name is shown in the help as it is; click would show it in upper case."""

    def get_metavar(self, *_: object, **__: object) -> str:
        """What the help shows for the value."""
        return self.name


class Length(_NamedType):
    """A number of snippets, or ``auto``."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["auto"]:
        """Parse the option's value.

        Raises:
            click.BadParameter: it is neither.
        """
        if value == "auto":
            return "auto"
        try:
            length = int(value)
        except ValueError:
            length = 0
        if not layout.SHORTEST <= length <= layout.LONGEST:
            self.fail(
                f"{str(value)[:20]!r}, expected {layout.SHORTEST} to {layout.LONGEST} snippets, or auto", param, ctx
            )
        return length


class WindowSize(_NamedType):
    """A number of snippets, ``auto`` or ``off``."""

    name = "N|auto|off"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["auto", "off"]:
        """Parse the option's value.

        Raises:
            click.BadParameter: it is none of these.
        """
        if value == "auto":
            return "auto"
        if value == "off":
            return "off"
        try:
            size = int(value)
        except ValueError:
            size = 0
        if not windows.SHORTEST <= size <= windows.LONGEST:
            expected = f"expected {windows.SHORTEST} to {windows.LONGEST} snippets, auto or off"
            self.fail(f"{str(value)[:20]!r}, {expected}", param, ctx)
        return size


class Sha256(_NamedType):
    """A SHA-256 hash."""

    name = "HEX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Parse the option's value, into lower case.

        Raises:
            click.BadParameter: it is not a SHA-256 hash.
        """
        if not re.fullmatch("[0-9a-fA-F]{64}", value):
            self.fail(f"{str(value)[:80]!r}, expected 64 hexadecimal digits", param, ctx)
        return str(value).lower()


class Lengths(_NamedType):
    """Numbers of snippets: a single one, or a range START:STOP:STEP that includes STOP. Parsed into a tuple."""

    name = "N|START:STOP:STEP"

    def __init__(self, longest: int = layout.LONGEST) -> None:
        """Args: longest: most snippets that are accepted."""
        self._longest = longest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse the option's value.

        Raises:
            click.BadParameter: it is neither, or a length is out of range.
        """
        if isinstance(value, tuple):  # a default
            return value
        try:
            first, *others = map(int, value.split(":"))
            stop, step = others or (first, 1)
            lengths = range(first, stop + 1, step) if step > 0 else range(0)
        except ValueError:
            lengths = range(0)
        if not lengths or not layout.SHORTEST <= lengths[0] <= lengths[-1] <= self._longest:
            expected = f"expected {layout.SHORTEST} to {self._longest} snippets, or START:STOP:STEP in that range"
            self.fail(f"{str(value)[:40]!r}, {expected}", param, ctx)
        if len(lengths) > MOST_LENGTHS:
            self.fail(f"{value[:40]!r} are {len(lengths):,} lengths, expected at most {MOST_LENGTHS:,}", param, ctx)
        return tuple(lengths)


class Thresholds(_NamedType):
    """tIoU thresholds as START:STEP:STOP or A,B,C: a tuple of numbers in (0, 1]."""

    name = "START:STEP:STOP|A,B,C"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Parse the option's value.

        Raises:
            click.BadParameter: it is neither, has too many thresholds, or one out of range.
        """
        try:
            if ":" in value:
                start, step, stop = map(float, value.split(":"))
                count = int((stop - start) / step + 1.5) if step > 0 else 0
                thresholds = tuple(round(start + step * i, 10) for i in range(min(count, MOST_TIOUS + 1)))
            else:
                thresholds = tuple(map(float, value.split(",")))
        except (ValueError, OverflowError):
            thresholds = ()
        if len(thresholds) > MOST_TIOUS:
            self.fail(f"{value[:40]!r}, expected at most {MOST_TIOUS:,} thresholds", param, ctx)
        if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
            expected = "expected START:STEP:STOP or A,B,C, all in (0, 1], as 0.5:0.05:0.95"
            self.fail(f"{value!r}, {expected}", param, ctx)
        return thresholds


class SpaceSeparated(click.Option):
    """An option that takes all values up to the next option, and can be repeated: ``--lengths 100 200``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Like ``click.Option`` with ``multiple=True``."""
        super().__init__(*args, **{**kwargs, "multiple": True})

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Have click's parser take a value as usual, and then those that follow."""
        super().add_to_parser(parser, ctx)
        for name in self.opts:
            entry = parser._long_opt.get(name) or parser._short_opt[name]
            entry.process = partial(_process_all, entry.process)


def _process_all(process_one: Callable[[str, Any], None], value: str, state: Any) -> None:
    """Process a value and all that follow it up to the next option.

    Args:
        process_one: click's own method for one value.
        value: the first value.
        state: the parser's state, with the remaining arguments in ``rargs``.
    """
    process_one(value, state)
    while state.rargs and not state.rargs[0].startswith("-"):
        process_one(state.rargs.pop(0), state)
