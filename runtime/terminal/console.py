"""What all commands share: how they end, and how they print."""

import codecs
import io
import os
import struct
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import NoReturn, TypeVar

import click

from stale_runtime.errors import OutputError
from stale_runtime.exit_codes import DONE
from stale_runtime.launch import find_interruption
from stale_runtime.system.cpus import available_threads
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.text import one_line
from stale_runtime.terminal.endings import TRACEBACK, explain_ending, is_full_stdout
from stale_runtime.terminal.progress import Progress, clear_line
from stale_runtime.terminal.stuck_calls import end_stuck_calls
from stale_runtime.terminal.termination import ignore_interruptions, raise_termination

_ESCAPE = "stale-edge.escape"
"""Name of the way in which unknown letters are escaped."""

T = TypeVar("T")


def run_command(command: click.Command, name: str) -> NoReturn:
    """Run a command and exit with its exit code; every error is one line on stderr.

    SIGTERM and SIGHUP end it like Ctrl-C.

    Args:
        command: returns its exit code, or None for 0.
        name: the command's name, which its messages begin with.
    """
    with raise_termination():
        sys.exit(_run(command, name))


def _run(command: click.Command, name: str) -> int:
    try:
        _open_closed_streams()
        _escape_unknown_letters()
        with end_stuck_calls(name):
            code = command.main(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        _close_stdout()
        return DONE
    except (Exception, KeyboardInterrupt) as problem:
        if find_interruption(problem) is not None:
            ignore_interruptions()
        ending = explain_ending(problem)
        if ending.is_bug and os.environ.get(TRACEBACK):
            import traceback  # only whoever looks for bugs needs it

            clear_line()
            traceback.print_exc()
        if is_full_stdout(problem):
            _close_stdout()
        hint = f" (see {name} --help)" if isinstance(problem, click.ClickException) else ""
        note(name, f"error: {ending.message}{hint}")
        return ending.exit_code


def note(name: str, text: str) -> None:
    """Print a line on stderr; errors while printing it are ignored."""
    clear_line()
    with suppress(OSError):
        click.echo(f"{name}: {one_line(text)}", err=True)


def echo(text: str = "", *, nl: bool = True) -> bool:
    """Print a result on stdout. Once its reader, such as ``head``, has closed the pipe, output is discarded.

    Returns:
        Whether the reader was still there.

    Raises:
        OutputError: stdout cannot be written.
    """
    clear_line()
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
    items: Iterable[T],
    *,
    label: str,
    total: int,
    describe: Callable[[T], str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[T, None, None]:
    """Yield the items, and say on stderr how many are done if there are several.

    Args:
        items: what to yield.
        label: what is done with them, such as ``detecting``.
        total: how many items there are.
        describe: what stands behind their number, given the last item.
        clock: tells the time in seconds.
    """
    if total < 2:
        yield from items
        return
    context = click.get_current_context(silent=True)
    shown = Progress((context and context.find_root().info_name) or "stale-edge", clock=clock)
    started_s = clock()
    shown.show(f"{label}: 0 of {total:,}", part=0)
    try:
        for done, item in enumerate(items, 1):
            yield item
            more = "" if describe is None else f", {describe(item)}"
            left_s = (clock() - started_s) / done * (total - done)
            shown.show(f"{label}: {done:,} of {total:,}{more}", part=done / total, left_s=left_s)
    finally:
        shown.end()


def limit_threads(name: str, asked: int) -> int:
    """Limit a number of threads to the CPUs that this process may run on, and tell the user."""
    available = available_threads()
    if asked > available:
        note(name, f"--threads {asked}: this process may run on {available} CPUs, so {available} are used")
    return min(asked, available)


def _open_closed_streams() -> None:
    """Open /dev/null for closed standard streams; otherwise the next file opened would receive what is printed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 -- stays open until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _escape_unknown_letters() -> None:
    """Print letters that the code page of a terminal lacks as escapes, instead of failing on the first one."""
    codecs.register_error(_ESCAPE, _escape_like_json)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPE)


def _escape_like_json(problem: UnicodeError) -> tuple[str, int]:
    r"""Escapes that JSON has, too: ``\u00e9``, and a pair of them for letters beyond U+FFFF."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    halves = problem.object[problem.start : problem.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{half:04x}" for (half,) in struct.iter_unpack(">H", halves)), problem.end


def _close_stdout() -> None:
    """Discard buffered output, which Python would otherwise fail to write again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
