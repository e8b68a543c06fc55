"""How a worker process ended, and what that says of the work that it had in hand."""

import signal
from typing import NamedTuple

from stale_runtime.errors import StaleError, WorkerError
from stale_runtime.system.long_calls import time_limit_error

GAVE_UP = 113
"""Exit code of a worker whose computation went on after its time limit; no other ending of Python has it."""


class Ended(NamedTuple):
    """How a worker process ended."""

    exit_code: int | None
    """Negative for a signal, as in ``multiprocessing``; None if nobody knows."""

    @property
    def gave_up(self) -> bool:
        """Whether it ended itself because a computation went on after its time limit."""
        return self.exit_code == GAVE_UP

    @property
    def is_killed(self) -> bool:
        """Whether it got SIGKILL, which the system sends if memory runs out."""
        return self.exit_code == -signal.SIGKILL

    def __str__(self) -> str:
        if self.exit_code is None or self.exit_code >= 0:
            return f"ended with exit code {self.exit_code}"
        try:
            name = signal.Signals(-self.exit_code).name
        except ValueError:
            name = f"signal {-self.exit_code}"
        return f"was ended by {name}"


def why_lost(what: str, ended: Ended, *, timeout_s: float | None) -> StaleError:
    """The error of an item whose worker has ended.

    Args:
        what: names the item.
        ended: how the worker ended.
        timeout_s: most seconds for an item; None for no limit.
    """
    if ended.gave_up and timeout_s is not None:
        return time_limit_error(timeout_s, what)
    why = ", as the system does if memory runs out" if ended.is_killed else ""
    remedy = "with fewer --workers" if ended.is_killed else "alone"
    return WorkerError(f"{what}: the process that worked on it {ended}{why}; run it again {remedy}")
