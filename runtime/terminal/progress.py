"""How far long work is: on a terminal one line with a bar that changes, elsewhere a new line every minute."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import click

from stale_runtime.system.text import one_line

_SECONDS_BETWEEN_LINES = 60.0
"""If stderr is a file or a pipe."""
_SHORTEST_BAR, _LONGEST_BAR = 6, 20
"""Characters between the brackets."""
_WIDTH = 80
"""Characters of a terminal that does not say how wide it is."""


class Progress:
    """Says on stderr how far long work is.

    A terminal that can erase a line gets one that changes. A file, a pipe or a terminal without that (``TERM=dumb``)
    gets lines without control characters, at most one every minute.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: name: name of the command, which begins each line; clock: tells the time in seconds."""
        self._name = name
        self._clock = clock
        self._changes = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._last_line_s = clock()

    def show(self, text: str, *, part: float | None = None, left_s: float | None = None, at_once: bool = False) -> None:
        """Show what is being done.

        Args:
            text: what is being done.
            part: share of the work that is done, in [0, 1], for the bar; None for no bar.
            left_s: seconds until all is done; None if that is not known.
            at_once: in a file or pipe, too, print a line now.
        """
        left = "" if left_s is None else f"about {duration(left_s)} left"
        if self._changes:
            _line.draw(_fit(f"{self._name}: {one_line(text)}", part, left, _columns() - 1))
        elif at_once or self._clock() - self._last_line_s >= _SECONDS_BETWEEN_LINES:
            self._last_line_s = self._clock()
            with suppress(OSError):
                click.echo(f"{self._name}: {', '.join(filter(None, (one_line(text), left)))}", err=True)

    def end(self) -> None:
        """Erase the line that changes."""
        clear_line()


def clear_line() -> None:
    """Erase the line that changes, if there is one, so that something else can be printed; it is drawn again later."""
    _line.clear()


def duration(seconds: float) -> str:
    """A time as text, such as ``12 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class _ChangingLine:
    """The line at the cursor of the terminal, of which there is only one."""

    def __init__(self) -> None:
        self._text = ""

    def draw(self, line: str) -> None:
        if line != self._text:
            self._write(f"\r{line}\033[K")
            self._text = line

    def clear(self) -> None:
        if self._text:
            self._write("\r\033[K")
            self._text = ""

    @staticmethod
    def _write(text: str) -> None:
        with suppress(OSError):  # a terminal that has been closed does not end the work
            click.echo(text, nl=False, err=True)


_line = _ChangingLine()


def _fit(text: str, part: float | None, left: str, room: int) -> str:
    """A line of at most ``room`` characters, with as long a bar as fits; if not even the shortest does, without one."""
    end = f" {left}" if left else ""
    size = min(room - len(text) - len(end) - 3, _LONGEST_BAR)
    if part is not None and size >= _SHORTEST_BAR:
        full = int(size * min(max(part, 0.0), 1.0))
        end = f" [{'#' * full}{'-' * (size - full)}]{end}"
    return (text[: max(0, room - len(end))] + end)[:room]


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        return _WIDTH
