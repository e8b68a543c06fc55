"""Signals that end a command."""

import signal
import sys
import threading

import pytest

from stale_runtime.terminal.termination import Termination, raise_termination


class Fragile:
    """Something in whose finalizer a signal arrives, where Python ignores exceptions."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


def lose_signal(number: int) -> None:
    with raise_termination():
        Fragile(number)
        threading.Event().wait(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_not_lost_where_python_ignores_exceptions(number: int) -> None:
    before, hook = signal.getsignal(number), sys.unraisablehook
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt) as ended:
            lose_signal(number)
        assert isinstance(ended.value, Termination) == (number == signal.SIGTERM)
        assert sys.unraisablehook is hook
    finally:
        signal.signal(number, before)


def test_other_threads_cannot_be_ended_so_nothing_is_changed_there() -> None:
    found: list[object] = []

    def look() -> None:
        with raise_termination():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
