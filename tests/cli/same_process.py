"""Running ``stale-run`` and ``stale-eval`` in the tests' own process, where a child process would show nothing more."""

import io
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from stale_runtime.commands import evaluate
from stale_runtime.commands import run as run_command

MAINS = {"stale-run": run_command.main, "stale-eval": evaluate.main}


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run(name: str, *arguments: str | Path, cwd: Path) -> Done:
    """Run a command in a folder, and check that it shows no traceback."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, chdir(cwd), redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            MAINS[name]()
    assert isinstance(ended.value.code, int)
    assert "Traceback" not in stderr.getvalue()
    return Done(ended.value.code, stdout.getvalue(), stderr.getvalue())


def fails(name: str, *arguments: str | Path, cwd: Path, code: int, says: str) -> None:
    """Run a command that must end with this exit code and one line on stderr that contains ``says``."""
    done = run(name, *arguments, cwd=cwd)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code, (done.returncode, done.stderr)
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{name}: error: "), done.stderr
    assert says in lines[0], done.stderr
    assert done.stdout == ""
