"""Types of command-line options that click does not have."""

import math
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import click

from stale_runtime.bundle import layout
from stale_runtime.inference import windows
from stale_runtime.inputs.remote_files import Source, parse_source
from stale_runtime.inputs.shards import Shard

MOST_TIOUS = 1000
MOST_WORKERS = 256
MOST_LENGTHS = 4096
PATH = click.Path(path_type=Path, readable=False)
"""A path, whether it exists or not: the code that reads it gives better error messages than click."""


class SourceType(click.ParamType):  # type: ignore[type-arg]
    """A path, or the URL of a file or folder in object storage."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Source:
        """Parse the argument.

        Raises:
            click.BadParameter: it is a URL that is not read.
        """
        try:
            return parse_source(value) if isinstance(value, str) else Path(os.fsdecode(value))
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


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


class FrameRate(Number):
    """Frames a second, as a number or as a fraction such as 30000/1001."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the option's value.

        Raises:
            click.BadParameter: it is neither, or not in the range.
        """
        match = re.fullmatch(r"\s*(\d{1,12})\s*/\s*(\d{1,12})\s*", value, re.ASCII) if isinstance(value, str) else None
        if match is None:
            return super().convert(value, param, ctx)
        frames, seconds = map(int, match.groups())
        if not seconds:
            self.fail(f"{value!r}, expected a fraction such as 30000/1001", param, ctx)
        return super().convert(frames / seconds, param, ctx)


_Word = TypeVar("_Word", bound=str)


class _NamedType(click.ParamType):  # type: ignore[type-arg]
    """An option type whose name is shown in the help as it is; click would show it in upper case."""

    def get_metavar(self, *_: object, **__: object) -> str:
        """What the help shows for the value."""
        return self.name


class _NumberOrWord(_NamedType, Generic[_Word]):
    """A whole number in a range, or a word that stands for one."""

    least: int
    most: int
    words: tuple[_Word, ...]
    unit: str
    """What is counted, and which words there are, for messages."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | _Word:
        """Parse the option's value.

        Raises:
            click.BadParameter: it is neither.
        """
        for word in self.words:
            if value == word:
                return word
        try:
            number = int(value)
        except ValueError:
            number = self.least - 1
        if not self.least <= number <= self.most:
            self.fail(f"{str(value)[:20]!r}, expected {self.least} to {self.most} {self.unit}", param, ctx)
        return number


class Length(_NumberOrWord[Literal["auto"]]):
    """A number of snippets, or ``auto``."""

    name, unit = "N|auto", "snippets, or auto"
    words = ("auto",)
    least, most = layout.SHORTEST, layout.LONGEST


class WindowSize(_NumberOrWord[Literal["auto", "off"]]):
    """A number of snippets, ``auto`` or ``off``."""

    name, unit = "N|auto|off", "snippets, auto or off"
    words = ("auto", "off")
    least, most = windows.SHORTEST, windows.LONGEST


class Workers(_NumberOrWord[Literal["auto"]]):
    """A number of processes, or ``auto``."""

    name, unit = "N|auto", "processes, or auto"
    words = ("auto",)
    least, most = 1, MOST_WORKERS


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


class ShardNumber(_NamedType):
    """A shard as I/N, counted from 0."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        """Parse the option's value.

        Raises:
            click.BadParameter: it is not a shard.
        """
        try:
            return Shard.parse(value)
        except ValueError as problem:
            self.fail(f"{str(value)[:30]!r}, {problem}", param, ctx)


class Lengths(_NamedType):
    """Numbers of snippets: a single one, or a range that includes STOP, see ``read_range``. Parsed into a tuple."""

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
        expected = f"expected {layout.SHORTEST} to {self._longest} snippets, or START:STOP:STEP in that range"
        try:
            start, stop, step = read_range(value, int) if ":" in value else (int(value), int(value), 1)
        except _UnclearRangeError as problem:
            self.fail(f"{value[:40]!r} {problem}; {expected}", param, ctx)
        except (ValueError, OverflowError):
            self.fail(f"{value[:40]!r}, {expected}", param, ctx)
        lengths = range(start, stop + 1, step)
        if not layout.SHORTEST <= lengths[0] <= lengths[-1] <= self._longest:
            self.fail(f"{value[:40]!r}, {expected}", param, ctx)
        if len(lengths) > MOST_LENGTHS:
            self.fail(f"{value[:40]!r} are {len(lengths):,} lengths, expected at most {MOST_LENGTHS:,}", param, ctx)
        return tuple(lengths)


class Thresholds(_NamedType):
    """tIoU thresholds as A,B,C, or as a range that includes STOP, see ``read_range``: a tuple of numbers in (0, 1]."""

    name = "START:STEP:STOP|A,B,C"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Parse the option's value.

        Raises:
            click.BadParameter: it is neither, has too many thresholds, or one out of range.
        """
        expected = "expected START:STEP:STOP or A,B,C, all in (0, 1], as 0.5:0.05:0.95"
        try:
            if ":" in value:
                start, stop, step = read_range(value, float)
                count = int((stop - start) / step + _ROUNDING) + 1
                thresholds = tuple(round(start + step * i, 10) for i in range(min(count, MOST_TIOUS + 1)))
            else:
                thresholds = tuple(map(float, value.split(",")))
        except _UnclearRangeError as problem:
            self.fail(f"{value[:40]!r} {problem}; {expected}", param, ctx)
        except (ValueError, OverflowError):
            thresholds = ()
        if len(thresholds) > MOST_TIOUS:
            self.fail(f"{value[:40]!r}, expected at most {MOST_TIOUS:,} thresholds", param, ctx)
        if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
            self.fail(f"{value[:40]!r}, {expected}", param, ctx)
        return thresholds


class _UnclearRangeError(ValueError):
    """Three numbers with colons that are no range in either order; the message says why."""


_ROUNDING = 1e-9
"""A part of a step: 0.55 - 0.5 is a little more than 0.05 as a float, and 1 - 0.9 a little less than 0.1."""
_Real = TypeVar("_Real", int, float)


def read_range(text: str, number: Callable[[str], _Real]) -> tuple[_Real, _Real, _Real]:
    """Read a range of positive numbers, START:STEP:STOP as papers write it or START:STOP:STEP as Python does.

    The step is no longer than the span from start to stop, which is true of one order at most. Where start and stop
    are equal, it may be.

    Args:
        text: three numbers with colons.
        number: parses one of them.

    Returns:
        Start, stop and step.

    Raises:
        ValueError: these are not three numbers, or in neither order a range; then the message names both readings.
    """
    start, second, third = map(number, text.split(":"))
    orders = (start, third, second), (start, second, third)  # start, stop, step
    if start > 0:
        for start, stop, step in orders:
            if 0 < step <= (stop - start) * (1 + _ROUNDING):
                return start, stop, step
        for start, stop, step in orders:
            if start == stop and step > 0:
                return start, stop, step
    readings = (
        f"{order}, from {start} to {stop} in steps of {step}"
        for order, (start, stop, step) in zip(("START:STEP:STOP", "START:STOP:STEP"), orders, strict=True)
    )
    raise _UnclearRangeError(f"is a range neither as {', nor as '.join(readings)}")


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
