"""What a command says and returns when it ends with an error."""

import errno
import os
import signal
from typing import Final, NamedTuple

import click

from stale_runtime.errors import OutOfMemoryError, StaleError
from stale_runtime.exit_codes import INCOMPLETE, INTERRUPTED, USAGE
from stale_runtime.launch import describe_lack_of_memory, find_interruption, lacks_memory
from stale_runtime.system.files import reason, why_unwritten
from stale_runtime.terminal.termination import Termination

TRACEBACK: Final = "STALE_TRACEBACK"
"""Environment variable: if set, bugs print their traceback."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Ending(NamedTuple):
    """How a command ends with an error."""

    exit_code: int
    message: str
    is_bug: bool = False
    """Whether nobody expected the error, so that its traceback helps."""


def explain_ending(problem: BaseException) -> Ending:
    """Exit code and message of an error.

    Args:
        problem: what a command ends with.
    """
    if isinstance(problem, StaleError):
        return Ending(problem.exit_code, str(problem))
    if isinstance(problem, click.ClickException):
        return Ending(USAGE, problem.format_message())
    interruption = find_interruption(problem)
    if interruption is not None or isinstance(problem, click.exceptions.Abort):
        return _explain_interruption(interruption)
    if lacks_memory(problem):
        return Ending(OutOfMemoryError.exit_code, describe_lack_of_memory(problem))
    if is_full_stdout(problem):
        assert isinstance(problem, OSError)
        return Ending(USAGE, f"stdout: {why_unwritten(problem)}")
    if isinstance(problem, OSError) and problem.filename == os.devnull:
        return Ending(USAGE, f"{os.devnull}: {reason(problem)}; create it: mknod -m 666 {os.devnull} c 1 3")
    text = f"a bug in stale-edge: {type(problem).__name__}: {problem}; set {TRACEBACK}=1 for the details to report"
    return Ending(INCOMPLETE, text, is_bug=True)


def is_full_stdout(problem: BaseException) -> bool:
    """Whether stdout could not be written because there is no room."""
    return isinstance(problem, OSError) and problem.errno in _FULL and problem.filename is None


def _interruption_code(interruption: KeyboardInterrupt | None) -> int:
    """The exit code after Ctrl-C, SIGTERM or SIGHUP."""
    return 128 + interruption.number if isinstance(interruption, Termination) else INTERRUPTED


def _explain_interruption(interruption: KeyboardInterrupt | None) -> Ending:
    said = str(interruption or "") or "no incomplete files are left behind"
    how = "interrupted"
    if isinstance(interruption, Termination):
        how = f"ended by {signal.Signals(interruption.number).name}"
    return Ending(_interruption_code(interruption), f"{how}; {said}")
