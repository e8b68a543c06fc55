"""Ending a command by a signal or a time limit even while a library computes and Python notices neither."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from stale_runtime.errors import TimeLimitError
from stale_runtime.system.long_calls import give_up_with, stop_calls

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # its signals are not the parent's


@contextmanager
def end_stuck_calls(name: str) -> Iterator[None]:
    """Stop the calls of ``stoppable`` in the block when a signal arrives that ends the command.

    Then Python handles the signal as usual. If a call does not stop, the process ends without that, with one line.

    Args:
        name: the command's name, which messages begin with.
    """
    if threading.current_thread() is not threading.main_thread():  # gets no signals
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    give_up_with(lambda text: _end_process(name, text, TimeLimitError.exit_code))
    threading.Thread(target=_await_signals, args=(reader, name), daemon=True).start()
    try:
        yield
    finally:
        give_up_with(None)
        signal.set_wakeup_fd(before)
        os.close(writer)


def _await_signals(reader: int, name: str) -> None:
    """Stop calls when a signal arrives, until the other end of the pipe is closed."""
    with open(reader, "rb", buffering=0) as arrived:
        while numbers := arrived.read(1):
            (number,) = numbers
            if number in _ENDING and stop_calls():
                ended = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
                text = f"{ended} in a computation that could not be stopped; leftovers are removed by the next run"
                _end_process(name, text, 128 + number)


def _end_process(name: str, text: str, code: int) -> NoReturn:
    os.write(sys.stderr.fileno(), f"{name}: error: {text}\n".encode(errors="replace"))
    os._exit(code)
