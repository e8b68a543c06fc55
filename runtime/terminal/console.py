"""What all our commands share: how they end, and what they say on stderr."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NoReturn, TypeVar

import click

from stale_runtime.errors import OutOfMemoryError, OutputError, StaleError
from stale_runtime.launch import INTERRUPTED, was_interrupted
from stale_runtime.system.cpus import available_threads
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.text import one_line

USAGE, BUG = 2, 1
TRACEBACK = "STALE_TRACEBACK"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

T = TypeVar("T")


def run(command: click.Command, name: str) -> NoReturn:
    """Run a command to its exit code; whatever goes wrong takes one line on stderr.

    Args:
        command: the command.
        name: what messages begin with.
    """
    _hold_standard_streams()
    try:
        code = command.main(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort as problem:
        code = _end_interrupted(name, problem.__context__)
    except click.ClickException as problem:
        code = _complain(name, f"{problem.format_message()} (see {name} --help)", USAGE)
    except KeyboardInterrupt as problem:
        code = _end_interrupted(name, problem)
    except StaleError as problem:
        code = _complain(name, str(problem), problem.exit_code)
    except MemoryError as problem:
        code = _complain(name, f"not enough memory ({problem}); give less at once", OutOfMemoryError.exit_code)
    except BrokenPipeError:  # the reader, head for one, has seen enough
        _close_stdout()
        code = 0
    except Exception as problem:
        if was_interrupted(problem):
            sys.exit(_end_interrupted(name, None))
        if isinstance(problem, OSError) and problem.errno in _FULL and problem.filename is None:
            _close_stdout()
            sys.exit(_complain(name, f"stdout: {why_unwritten(problem)}", USAGE))
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        text = f"a bug in stale-edge: {type(problem).__name__}: {problem}; set {TRACEBACK}=1 for the details to report"
        code = _complain(name, text, BUG)
    sys.exit(code if isinstance(code, int) else 0)


def note(name: str, text: str) -> None:
    """Say something on stderr, if there is anybody to hear it."""
    with suppress(OSError):
        click.echo(f"{name}: {one_line(text)}", err=True)


def echo(text: str = "", *, nl: bool = True) -> None:
    """Print a result on stdout. Where its reader, head for one, has seen enough, what follows goes nowhere.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        click.echo(text, nl=nl)
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()
    except OSError as problem:
        _close_stdout()
        raise OutputError(f"stdout: {why_unwritten(problem)}") from problem


def progress(items: Iterable[T], *, label: str, total: int) -> Iterator[T]:
    """The same items, with a progress bar on stderr if that is a terminal and there are several."""
    if total < 2 or not sys.stderr.isatty():
        yield from items
        return
    with click.progressbar(items, length=total, label=label, file=sys.stderr) as bar:
        yield from bar


def usable_threads(name: str, asked: int) -> int:
    """As many threads as were asked for, but no more than the CPUs this process may run on; says so."""
    available = available_threads()
    if asked > available:
        note(name, f"--threads {asked}: this process may run on {available} CPUs, so {available} are used")
    return min(asked, available)


def _end_interrupted(name: str, problem: BaseException | None) -> int:
    """Say of an interruption what it says of itself, if anything; another one changes nothing any more."""
    with suppress(ValueError):  # where this is not the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    said = str(problem or "") or "nothing half-done is left behind"
    return _complain(name, f"interrupted; {said}", INTERRUPTED)


def _hold_standard_streams() -> None:
    """Let no file that is opened later take the number of a standard stream that was closed: others write to those."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 -- open until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _close_stdout() -> None:
    """Let Python write what is left nowhere when it ends, or it would complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(name: str, text: str, code: int) -> int:
    note(name, f"error: {text}")
    return code
