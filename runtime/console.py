"""What all our commands share: how they end, and what they say on stderr."""

import errno
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import NoReturn, TypeVar

import click

from stale_runtime.errors import OutOfMemoryError, StaleError
from stale_runtime.files import why_unwritten
from stale_runtime.sessions import available_threads

USAGE, BUG, INTERRUPTED = 2, 1, 130
TRACEBACK = "STALE_TRACEBACK"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

T = TypeVar("T")


def run(command: click.Command, name: str) -> NoReturn:
    """Run a command to its exit code; whatever goes wrong takes one line on stderr.

    Args:
        command: the command.
        name: what messages begin with.
    """
    try:
        code = command.main(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort as problem:
        code = _complain(name, _interruption(problem.__context__), INTERRUPTED)
    except click.ClickException as problem:
        code = _complain(name, f"{problem.format_message()} (see {name} --help)", USAGE)
    except KeyboardInterrupt as problem:
        code = _complain(name, _interruption(problem), INTERRUPTED)
    except StaleError as problem:
        code = _complain(name, str(problem), problem.exit_code)
    except MemoryError as problem:
        code = _complain(name, f"not enough memory ({problem}); give less at once", OutOfMemoryError.exit_code)
    except BrokenPipeError:  # the reader, head for one, has seen enough
        _close_stdout()
        code = 0
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno in _FULL and problem.filename is None:
            _close_stdout()
            sys.exit(_complain(name, f"stdout: {why_unwritten(problem)}", USAGE))
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        text = f"a bug in stale-edge: {type(problem).__name__}: {problem}; set {TRACEBACK}=1 for the details to report"
        code = _complain(name, text, BUG)
    sys.exit(code if isinstance(code, int) else 0)


def one_line(text: str) -> str:
    """A message on one line, without the control characters that a hostile file name may carry."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def note(name: str, text: str) -> None:
    """Say something on stderr."""
    click.echo(f"{name}: {one_line(text)}", err=True)


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


def _interruption(problem: BaseException | None) -> str:
    """What is said of an interruption: what it says of itself, if anything."""
    return f"interrupted; {str(problem or '') or 'nothing half-done is left behind'}"


def _close_stdout() -> None:
    """Let Python write what is left nowhere when it ends, or it would complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(name: str, text: str, code: int) -> int:
    note(name, f"error: {text}")
    return code
