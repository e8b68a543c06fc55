"""Ending a command as Ctrl-C does if the system asks it to end, so that it removes what it began."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class Termination(KeyboardInterrupt):
    """SIGTERM or SIGHUP has arrived."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        """The signal's number."""


@contextmanager
def raise_termination() -> Iterator[None]:
    """Raise ``Termination`` in the block if one of these signals arrives; later ones are ignored meanwhile.

    A signal that is ignored, as ``nohup`` does with SIGHUP, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    caught = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    try:
        for number in caught:
            signal.signal(number, _terminate)
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])


def ignore_interruptions() -> None:
    """Let nothing disturb what a command does at its end."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *_SIGNALS):
            signal.signal(number, signal.SIG_IGN)


def _terminate(number: int, _: FrameType | None) -> None:
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Termination(number)
