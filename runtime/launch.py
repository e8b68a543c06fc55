"""How commands start and end: quickly, and with one line if Ctrl-C or a lack of memory comes while modules load."""

import atexit
import gc
import os
import resource
import sys
import threading
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from stale_runtime.exit_codes import BAD_INPUT, INTERRUPTED

_SIGNS = ("bad_alloc", "annot allocate memory")
"""Texts of errors that are due to a lack of memory."""
_SIGNS_IF_LIMITED = ("failed to map segment", "returned NULL without setting an exception")
"""Texts of errors that are, too, if there is a limit, and else have other causes."""
_LEAST = 140_000_000
"""Bytes of address space with which numpy's linear algebra ends the process itself instead of raising an error."""


def launch(module: str, name: str) -> None:
    """Import the module of a command, and call its ``main``.

    Args:
        module: the command's module.
        name: the command's name, which its messages begin with.
    """
    try:
        limit = _address_space_limit()
        if limit is not None and limit < _LEAST:
            raise MemoryError("to load numpy")
        command = _import_without_gc(module)
    except BaseException as problem:
        if find_interruption(problem) is not None:
            print(f"{name}: error: interrupted; no work had started", file=sys.stderr)
            sys.exit(INTERRUPTED)
        if lacks_memory(problem):
            print(f"{name}: error: {describe_lack_of_memory(problem)}", file=sys.stderr)
            sys.exit(BAD_INPUT)
        raise
    command.main()


def _import_without_gc(module: str) -> ModuleType:
    """Import a module, and exempt all that is loaded by then from garbage collection.

    Modules stay until the process ends, so looking for garbage among their functions and classes, several times while
    they load and again at the end, finds none, and would take a fifth of a short run.
    """
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def _launch_and_end(module: str, name: str) -> None:
    """Like ``launch``, but the process ends at once when the command does."""
    try:
        launch(module, name)
    except SystemExit as ended:
        others = [
            thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()
        ]
        if not isinstance(ended.code, int) or others:
            raise
        _end_process(ended.code)


def _end_process(code: int) -> NoReturn:
    """End without freeing memory object by object, for which Python takes as long as a short video takes.

    Functions that are registered with ``atexit`` run before that, and what was printed is written, as usual.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the command has reported it by now, if anybody can read that
            stream.flush()
    os._exit(code)


def find_interruption(problem: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that caused an error: libraries that are interrupted while they load raise errors of their own."""
    while problem is not None:
        if isinstance(problem, KeyboardInterrupt):
            return problem
        problem = problem.__cause__ or problem.__context__
    return None


def lacks_memory(problem: BaseException | None) -> bool:
    """Whether an error is due to a lack of memory: libraries that cannot be loaded then raise errors of their own."""
    limited = _address_space_limit() is not None
    while problem is not None:
        signs = (*_SIGNS, *_SIGNS_IF_LIMITED) if limited else _SIGNS
        if isinstance(problem, MemoryError) or any(sign in str(problem) for sign in signs):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def describe_lack_of_memory(problem: BaseException) -> str:
    """What is said of it: how much may be used, as far as that is known, and the remedy."""
    what = f" ({problem})" if isinstance(problem, MemoryError) and str(problem) else ""
    limit = _address_space_limit()
    if limit is not None:
        return f"not enough memory{what}: ulimit -v allows {limit / 1e6:,.0f} MB; raise it, or use smaller inputs"
    return f"not enough memory{what}; use smaller inputs, or end other programs"


def _address_space_limit() -> int | None:
    """Bytes of memory that this process may map; None if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def start_run() -> None:
    """Run ``stale-run``."""
    _launch_and_end("stale_runtime.commands.run", "stale-run")


def start_evaluation() -> None:
    """Run ``stale-eval``."""
    _launch_and_end("stale_runtime.commands.evaluate", "stale-eval")


def start_merge() -> None:
    """Run ``stale-merge``."""
    _launch_and_end("stale_runtime.commands.merge", "stale-merge")


def start_features() -> None:
    """Run ``stale-features``."""
    launch("stale_runtime.commands.extract_features", "stale-features")
