"""Running our commands in the process of the tests, where a process of their own would show nothing more."""

import io
import logging
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from stale_export.export_command import NOISY_LOGGERS


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def run_here(main: Callable[[], None], name: str, *arguments: str | Path, cwd: Path) -> Done:
    """Run a command's ``main`` in a folder, and make sure that it shows no traceback."""
    levels = {logger: logging.getLogger(logger).level for logger in NOISY_LOGGERS}
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, chdir(cwd), redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    for logger, level in levels.items():
        logging.getLogger(logger).setLevel(level)
    assert isinstance(ended.value.code, int)
    assert "Traceback" not in stderr.getvalue()
    return Done(ended.value.code, stdout.getvalue(), stderr.getvalue())


def fails_here(main: Callable[[], None], name: str, *arguments: str | Path, cwd: Path, code: int, says: str) -> None:
    """Run a command that has to print one line about what is wrong, and nothing else, and end with a code."""
    done = run_here(main, name, *arguments, cwd=cwd)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code, (done.returncode, done.stderr)
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{name}: error: "), done.stderr
    assert says in lines[0], done.stderr
    assert done.stdout == ""
