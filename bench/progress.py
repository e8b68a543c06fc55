"""One line on stderr that says how far a benchmark is and how long it will take."""

import sys
import time

import click

from stale_runtime.system.text import one_line
from stale_runtime.terminal import console

_SECONDS_BETWEEN_LINES = 15.0
"""If stderr is not a terminal."""


class Progress:
    """Rewrites its line on a terminal; adds one every few seconds to a file or pipe."""

    def __init__(self, name: str) -> None:
        """Args: name: name of the command, which begins each line."""
        self._name = name
        self._is_terminal = sys.stderr.isatty()
        self._last_line = time.monotonic()

    def say(self, text: str, left_s: float | None) -> None:
        """Show what is being done.

        Args:
            text: what is being done.
            left_s: seconds until the benchmark is done; None if that is not known.
        """
        if left_s is not None:
            text = f"{text}; about {_duration(left_s)} left"
        if self._is_terminal:
            click.echo(f"\r\033[K{self._name}: {one_line(text)}", nl=False, err=True)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            console.note(self._name, text)

    def done(self) -> None:
        """Clear the line."""
        if self._is_terminal:
            click.echo("\r\033[K", nl=False, err=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
