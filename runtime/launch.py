"""How commands start, so that Ctrl-C ends them with one line even while their modules are loading."""

import sys
from importlib import import_module

from stale_runtime.exit_codes import INTERRUPTED


def launch(module: str, name: str) -> None:
    """Import the module of a command, and call its ``main``.

    Args:
        module: the command's module.
        name: the command's name, which its messages begin with.
    """
    try:
        command = import_module(module)
    except BaseException as problem:
        if find_interruption(problem) is None:
            raise
        print(f"{name}: error: interrupted; no work had started", file=sys.stderr)
        sys.exit(INTERRUPTED)
    command.main()


def find_interruption(problem: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that caused an error: libraries that are interrupted while they load raise errors of their own."""
    while problem is not None:
        if isinstance(problem, KeyboardInterrupt):
            return problem
        problem = problem.__cause__ or problem.__context__
    return None


def start_run() -> None:
    """Run ``stale-run``."""
    launch("stale_runtime.commands.run", "stale-run")


def start_evaluation() -> None:
    """Run ``stale-eval``."""
    launch("stale_runtime.commands.evaluate", "stale-eval")


def start_features() -> None:
    """Run ``stale-features``."""
    launch("stale_runtime.commands.extract_features", "stale-features")
