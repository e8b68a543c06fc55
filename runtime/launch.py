"""How commands start, so that Ctrl-C takes one line also while their modules are loading."""

import sys
from importlib import import_module

INTERRUPTED = 130


def launch(module: str, name: str) -> None:
    """Load the module of a command, and run its ``main``.

    Args:
        module: where the command is.
        name: what messages begin with.
    """
    try:
        command = import_module(module)
    except BaseException as problem:
        if not was_interrupted(problem):
            raise
        print(f"{name}: error: interrupted; nothing had begun", file=sys.stderr)
        sys.exit(INTERRUPTED)
    command.main()


def was_interrupted(problem: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: modules of others that are interrupted while they load raise their own."""
    while problem is not None:
        if isinstance(problem, KeyboardInterrupt):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def stale_run() -> None:
    """Run ``stale-run``."""
    launch("stale_runtime.commands.run", "stale-run")


def stale_eval() -> None:
    """Run ``stale-eval``."""
    launch("stale_runtime.commands.evaluate", "stale-eval")
