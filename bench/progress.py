"""One line on stderr that says how far a benchmark is and how long it will take."""

import sys
import time

import click

from stale_runtime.system.text import one_line
from stale_runtime.terminal import console

_QUIET_S = 15.0
"""Seconds between lines where stderr is not a terminal."""


class Progress:
    """Rewrites its line on a terminal, and adds one now and then elsewhere."""

    def __init__(self, name: str) -> None:
        """Args: name: of the command, which lines begin with."""
        self._name = name
        self._is_terminal = sys.stderr.isatty()
        self._said = time.monotonic()

    def say(self, text: str, left_s: float | None) -> None:
        """Say what is being done.

        Args:
            text: what.
            left_s: seconds that the benchmark will still take, as far as is known.
        """
        if left_s is not None:
            text = f"{text}; about {_duration(left_s)} left"
        if self._is_terminal:
            click.echo(f"\r\033[K{self._name}: {one_line(text)}", nl=False, err=True)
        elif time.monotonic() - self._said >= _QUIET_S:
            self._said = time.monotonic()
            console.note(self._name, text)

    def done(self) -> None:
        """Clear the line."""
        if self._is_terminal:
            click.echo("\r\033[K", nl=False, err=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
