"""Ending a command as Ctrl-C does if the system asks it to end, so that it removes what it began."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
_AGAIN_S: Final = 0.1
"""Seconds after which a signal is sent again whose exception was lost."""


class Termination(KeyboardInterrupt):
    """SIGTERM or SIGHUP has arrived."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        """The signal's number."""


@contextmanager
def raise_termination() -> Iterator[None]:
    """Raise ``Termination`` in the block if one of these signals arrives; later ones are ignored meanwhile.

    A signal that is ignored, as ``nohup`` does with SIGHUP, stays ignored. An exception that Python ignores, because
    the signal came where none can be raised, such as while a process forks, is raised again a moment later.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    caught = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    process, report_lost = os.getpid(), sys.unraisablehook

    def send_again(lost: "sys.UnraisableHookArgs", /) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            report_lost(lost)
        elif os.getpid() == process:
            number = lost.exc_value.number if isinstance(lost.exc_value, Termination) else signal.SIGINT
            if number in caught:
                signal.signal(number, _terminate)
            threading.Timer(_AGAIN_S, os.kill, (process, number)).start()

    try:
        sys.unraisablehook = send_again
        for number in caught:
            signal.signal(number, _terminate)
        yield
    finally:
        sys.unraisablehook = report_lost
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
