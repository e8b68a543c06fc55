"""Calls into libraries that may take long, and ways to end them: after a time limit, or because of a signal.

While a library computes, Python's main thread notices neither. So such calls are made in a block of ``stoppable``, and
another thread stops them.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from stale_runtime.errors import TimeLimitError

PATIENCE_S = 5.0
"""How long a call that was stopped may go on: ONNX Runtime stops between two operators, OpenVINO not at all."""


class _Call:
    """A call that is running."""

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop
        self.stopped = False
        self.ended = threading.Event()

    def stop(self) -> None:
        self.stopped = True
        self._stop()


class _Limit:
    """A time limit for the calls of one block."""

    def __init__(self, seconds: float, what: str) -> None:
        self._seconds, self._what = seconds, what
        self.passed = False
        self.calls: set[_Call] = set()

    def pass_by(self) -> None:
        """Stop what is running, and give up on what does not stop."""
        self.passed = True
        if _end(self.calls) and _give_up is not None:
            _give_up(str(self.error()))

    def error(self) -> TimeLimitError:
        return time_limit_error(self._seconds, self._what)


_calls: set[_Call] = set()
"""Of all threads."""
_limit: ContextVar[_Limit | None] = ContextVar("limit", default=None)
_give_up: Callable[[str], object] | None = None


def time_limit_error(seconds: float, what: str) -> TimeLimitError:
    """What to raise for work that took longer than it may; the arguments are those of ``time_limit``."""
    return TimeLimitError(
        f"{what}: took longer than the limit of {seconds:g} s; allow more (--timeout), unless the video is short: then "
        "the bundle may not be what it should be"
    )


def give_up_with(end_process: Callable[[str], object] | None) -> None:
    """Say what ends the process if a call goes on after its time limit; by default nothing does.

    Args:
        end_process: called in another thread with the error's message; None for nothing.
    """
    global _give_up
    _give_up = end_process


@contextmanager
def time_limit(seconds: float | None, what: str) -> Iterator[None]:
    """Limit the time of a block, and end its calls in ``stoppable`` once it is over.

    Args:
        seconds: how long this thread may be in the block; None for no limit.
        what: names the work in the message.

    Raises:
        TimeLimitError: the limit has passed; when the block calls ``stoppable``, not in the middle of other work.
    """
    if seconds is None:
        yield
        return
    limit = _Limit(seconds, what)
    timer = threading.Timer(seconds, limit.pass_by)
    timer.daemon = True
    before = _limit.set(limit)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _limit.reset(before)


@contextmanager
def stoppable(stop: Callable[[], object]) -> Iterator[None]:
    """Make a call into a library that time limits and signals may stop.

    Args:
        stop: called in another thread, makes the call fail soon; if it cannot, it does nothing.

    Raises:
        TimeLimitError: the time limit passed before or during the call.
        KeyboardInterrupt: a signal stopped it.
    """
    call, limit = _Call(stop), _limit.get()
    holders = [_calls] if limit is None else [_calls, limit.calls]
    for calls in holders:
        calls.add(call)
    try:
        if limit is not None and limit.passed:  # asked after the call was added: from then on the limit stops it
            raise limit.error()
        yield
    except Exception as problem:
        if limit is not None and limit.passed:
            raise limit.error() from problem
        if call.stopped:
            raise KeyboardInterrupt from problem
        raise
    finally:
        call.ended.set()
        for calls in holders:
            calls.discard(call)


def stop_calls() -> bool:
    """Stop all calls that are running.

    Returns:
        Whether one of them still goes on after a while.
    """
    return _end(_calls)


def _end(calls: set[_Call]) -> bool:
    running = list(calls)
    for call in running:
        call.stop()
    return not all(call.ended.wait(PATIENCE_S) for call in running)
