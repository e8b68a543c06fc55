"""Work for a pool whose items say what happens to the worker."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stale_runtime.batch.lost_work import Ended, why_lost
from stale_runtime.errors import BundleError
from stale_runtime.system import long_calls
from stale_runtime.system.long_calls import stoppable, time_limit

TIMEOUT_S = 0.01


@dataclass(frozen=True)
class OddWork:
    """Gives each item back in capitals, unless it is one of those below."""

    opening: str = "fine"
    """What happens while a worker opens it."""

    def open(self) -> Callable[[Sequence[str]], Iterable[str]]:
        long_calls.PATIENCE_S = 0.0
        _do(self.opening)
        return _process

    def lost(self, item: str, ended: Ended) -> str:
        problem = why_lost(item, ended, timeout_s=TIMEOUT_S)
        return f"{type(problem).__name__}: {problem}"


def _process(items: Sequence[str]) -> Iterator[str]:
    for item in items:
        _do(item)
        yield item.upper()


def _do(what: str) -> None:
    action, _, argument = what.partition(" ")
    match action:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "ends":
            os._exit(3)
        case "raises":
            raise BundleError("bundle: broken; copy it again")
        case "raises-what-cannot-be-sent":
            raise type("LocalError", (Exception,), {})("of this process only")
        case "stuck":
            with time_limit(TIMEOUT_S, "stuck"), stoppable(lambda: None):
                threading.Event().wait()
        case "waits-at":
            Path(argument).read_bytes()
        case "frees":
            Path(argument).write_bytes(b"")
