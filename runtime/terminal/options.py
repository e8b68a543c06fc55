"""Kinds of command-line options that click does not have."""

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click

from stale_runtime.bundle import layout

PATH = click.Path(path_type=Path, readable=False)
"""A path, whatever is there: what reads it says better than click what is wrong with it."""


class Number(click.FloatRange):
    """A number in a range; NaN is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The option's value.

        Raises:
            click.BadParameter: it is no number, or not in the range.
        """
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


class Length(click.ParamType):  # type: ignore[type-arg]
    """A number of snippets, or ``auto``."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["auto"]:
        """The option's value.

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


class Sha256(click.ParamType):  # type: ignore[type-arg]
    """A SHA-256 hash."""

    name = "HEX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The option's value, in lower case.

        Raises:
            click.BadParameter: it is no such hash.
        """
        if not re.fullmatch("[0-9a-fA-F]{64}", value):
            self.fail(f"{str(value)[:80]!r}, expected 64 hexadecimal digits", param, ctx)
        return str(value).lower()


class Lengths(click.ParamType):  # type: ignore[type-arg]
    """A number of snippets, or several as START:STOP:STEP, the last one included: a tuple of them."""

    name = "N|START:STOP:STEP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The option's value.

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
        if not lengths or not layout.SHORTEST <= lengths[0] <= lengths[-1] <= layout.LONGEST:
            expected = f"expected {layout.SHORTEST} to {layout.LONGEST} snippets, or such START:STOP:STEP"
            self.fail(f"{str(value)[:40]!r}, {expected}", param, ctx)
        return tuple(lengths)


class SpaceSeparated(click.Option):
    """An option that takes all values up to the next option, and can be repeated: ``--lengths 100 200``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Args: as ``click.Option`` takes them; ``multiple`` is implied."""
        super().__init__(*args, **{**kwargs, "multiple": True})

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let click's parser take a value as ever, and then those that follow."""
        super().add_to_parser(parser, ctx)
        for name in self.opts:
            entry = parser._long_opt.get(name) or parser._short_opt[name]
            entry.process = partial(_process_all, entry.process)


def _process_all(process_one: Callable[[str, Any], None], value: str, state: Any) -> None:
    """Args: process_one: click's own; state: its parser's, with the arguments that are left."""
    process_one(value, state)
    while state.rargs and not state.rargs[0].startswith("-"):
        process_one(state.rargs.pop(0), state)
