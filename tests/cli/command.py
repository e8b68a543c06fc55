"""Run our commands as a user does, in a child process."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol


class Ended(Protocol):
    """How a command ended, and what it printed."""

    @property
    def returncode(self) -> int: ...
    @property
    def stdout(self) -> str: ...
    @property
    def stderr(self) -> str: ...


def run(
    name: str, *arguments: str | Path, cwd: Path, timeout: float = 120, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run an installed command, and check that it shows no traceback."""
    command = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def fails(name: str, *arguments: str | Path, cwd: Path, code: int, says: str) -> None:
    """Run a command that must end with this exit code and one line on stderr that contains ``says``."""
    assert_failed(run(name, *arguments, cwd=cwd), name, code=code, says=says)


def assert_failed(done: Ended, name: str, *, code: int, says: str) -> None:
    """Check that a command ended with this exit code and one line on stderr that contains ``says``."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code, (done.returncode, done.stderr)
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{name}: error: "), done.stderr
    assert says in lines[0], done.stderr
    assert done.stdout == ""


def interruptible() -> None:
    """Let a child react to signals as if started from a terminal, even if the tests run in the background."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def outside_make() -> dict[str, str]:
    """The environment without what a ``make`` that runs the tests would tell one that they run."""
    return {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
