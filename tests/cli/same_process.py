"""Running our commands in the tests' own process, where a child process would show nothing more."""

import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.command import assert_failed

COMMANDS = {
    "stale-run": "stale_runtime.commands.run",
    "stale-features": "stale_runtime.commands.extract_features",
    "stale-eval": "stale_runtime.commands.evaluate",
    "stale-merge": "stale_runtime.commands.merge",
    "stale-export": "stale_export.export_command",
    "stale-train": "stale_model.train_command",
}


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run(name: str, *arguments: str | Path, cwd: Path) -> Done:
    """Run a command in a folder, and check that it shows no traceback."""
    main: Callable[[], None] = import_module(COMMANDS[name]).main
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        _libraries_as_before(),
        chdir(cwd),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    assert "Traceback" not in stderr.getvalue()
    return Done(ended.value.code, stdout.getvalue(), stderr.getvalue())


def fails(name: str, *arguments: str | Path, cwd: Path, code: int, says: str) -> None:
    """Run a command that must end with this exit code and one line on stderr that contains ``says``."""
    assert_failed(run(name, *arguments, cwd=cwd), name, code=code, says=says)


@contextmanager
def _libraries_as_before() -> Iterator[None]:
    """Restore what the commands set for the whole process: log levels, warnings, PyTorch's threads and random state."""
    loggers = [logging.getLogger(name) for name in ("", "transformers", "huggingface_hub", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    torch = sys.modules.get("torch")
    threads, state = (torch.get_num_threads(), torch.get_rng_state()) if torch is not None else (None, None)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if torch is not None:
            torch.set_num_threads(threads)
            torch.set_rng_state(state)
