"""What all commands share: how they end, and how they print."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NoReturn, TypeVar

import click

from stale_runtime.errors import OutOfMemoryError, OutputError, StaleError
from stale_runtime.launch import INTERRUPTED, find_interruption
from stale_runtime.system.cpus import available_threads
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.text import one_line
from stale_runtime.terminal.stuck_calls import end_stuck_calls
from stale_runtime.terminal.termination import Termination

USAGE, BUG = 2, 1
"""Exit codes."""
TRACEBACK = "STALE_TRACEBACK"
"""Environment variable: if set, bugs print their traceback."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

T = TypeVar("T")


def run_command(command: click.Command, name: str) -> NoReturn:
    """Run a command and exit with its exit code; every error is one line on stderr.

    Args:
        command: returns its exit code, or None for 0.
        name: the command's name, which its messages begin with.
    """
    _open_closed_streams()
    try:
        with end_stuck_calls(name):
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
        code = _complain(
            name,
            f"not enough memory ({problem}); use smaller inputs, or end other programs",
            OutOfMemoryError.exit_code,
        )
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        _close_stdout()
        code = 0
    except Exception as problem:
        if (interruption := find_interruption(problem)) is not None:
            sys.exit(_end_interrupted(name, interruption))
        if isinstance(problem, OSError) and problem.errno in _FULL and problem.filename is None:
            _close_stdout()
            sys.exit(_complain(name, f"stdout: {why_unwritten(problem)}", USAGE))
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        text = f"a bug in stale-edge: {type(problem).__name__}: {problem}; set {TRACEBACK}=1 for the details to report"
        code = _complain(name, text, BUG)
    sys.exit(code if isinstance(code, int) else 0)


def note(name: str, text: str) -> None:
    """Print a line on stderr; errors while printing it are ignored."""
    with suppress(OSError):
        click.echo(f"{name}: {one_line(text)}", err=True)


def echo(text: str = "", *, nl: bool = True) -> bool:
    """Print a result on stdout. Once its reader, such as ``head``, has closed the pipe, output is discarded.

    Returns:
        Whether the reader was still there.

    Raises:
        OutputError: stdout cannot be written.
    """
    try:
        click.echo(text, nl=nl)
        sys.stdout.flush()
        return True
    except BrokenPipeError:
        _close_stdout()
        return False
    except OSError as problem:
        _close_stdout()
        raise OutputError(f"stdout: {why_unwritten(problem)}") from problem


def progress(
    items: Iterable[T], *, label: str, total: int, describe: Callable[[T | None], str] | None = None
) -> Iterator[T]:
    """Yield the items, with a progress bar on stderr if that is a terminal and there are several items.

    Args:
        items: what to yield.
        label: stands before the bar.
        total: how many items there are.
        describe: what stands behind the bar, given the last item.
    """
    if total < 2 or not sys.stderr.isatty():
        yield from items
        return
    with click.progressbar(items, length=total, label=label, item_show_func=describe, file=sys.stderr) as bar:
        yield from bar


def limit_threads(name: str, asked: int) -> int:
    """Limit a number of threads to the CPUs that this process may run on, and tell the user."""
    available = available_threads()
    if asked > available:
        note(name, f"--threads {asked}: this process may run on {available} CPUs, so {available} are used")
    return min(asked, available)


def _end_interrupted(name: str, problem: BaseException | None) -> int:
    """Print the interruption's message, if it has one, and ignore further interruptions."""
    with suppress(ValueError):  # raised outside the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    said = str(problem or "") or "no incomplete files are left behind"
    if isinstance(problem, Termination):
        return _complain(name, f"ended by {signal.Signals(problem.number).name}; {said}", 128 + problem.number)
    return _complain(name, f"interrupted; {said}", INTERRUPTED)


def _open_closed_streams() -> None:
    """Open /dev/null for closed standard streams; otherwise the next file opened would receive what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 -- stays open until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _close_stdout() -> None:
    """Discard buffered output, which Python would otherwise fail to write again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(name: str, text: str, code: int) -> int:
    note(name, f"error: {text}")
    return code
