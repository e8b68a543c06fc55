"""What a worker process of a pool does, from its start to its end."""

import gc
import os
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from multiprocessing.connection import Connection, wait
from multiprocessing.process import parent_process
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol, TypeVar

from stale_runtime.batch.lost_work import GAVE_UP, Ended
from stale_runtime.system.long_calls import give_up_with

Item = TypeVar("Item")
Result = TypeVar("Result")
_Item_contra = TypeVar("_Item_contra", contravariant=True)
_Result_co = TypeVar("_Result_co", covariant=True)
Process = Callable[[Sequence[Item]], Iterable[Result]]
"""Gives a result for each item, in order; each is sent as soon as it is there."""


class Message(Enum):
    """What a worker sends, followed by a value."""

    STARTED = auto()
    """It waits for the work; None."""
    READY = auto()
    """It waits for items; None."""
    DONE = auto()
    """The result of the next item in hand."""
    FAILED = auto()
    """An exception that ends the whole run."""


class Work(Protocol[_Item_contra, _Result_co]):
    """What the workers of a pool do. It is sent to each of them."""

    def open(self) -> Callable[[Sequence[_Item_contra]], Iterable[_Result_co]]:
        """Load what is needed; called once, in the worker. Returns what processes the items of a group."""
        ...

    def lost(self, item: _Item_contra, ended: Ended) -> _Result_co:
        """The result of an item whose worker has ended; called in the pool's own process."""
        ...


def serve(connection: Connection) -> None:
    """Do the work that arrives, until the other end is closed; the main function of a worker process.

    The process ends at once, too, if its parent does, or if a computation goes on after its time limit.

    Args:
        connection: gets the ``Work`` and then groups of items; ``Message`` says what is sent.
    """
    give_up_with(lambda _: os._exit(GAVE_UP))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        connection.send((Message.STARTED, None))
        work: Work[Any, Any] = connection.recv()
    except (EOFError, BrokenPipeError):
        return
    try:
        process = work.open()
        gc.collect()
        gc.freeze()  # what is loaded stays until the end, so looking for garbage in it again and again finds none
        connection.send((Message.READY, None))
        while (items := _next_group(connection)) is not None:
            for _, result in zip(items, process(items), strict=True):
                connection.send((Message.DONE, result))
    except BrokenPipeError:
        return
    except BaseException as problem:
        connection.send((Message.FAILED, _as_sendable(problem)))


def _next_group(connection: Connection) -> Sequence[Any] | None:
    try:
        items: Sequence[Any] = connection.recv()
    except EOFError:
        return None
    return items


def _as_sendable(problem: BaseException) -> BaseException:
    """The exception, with a note of where it was raised, or another one if it cannot be sent."""
    problem.add_note("".join(traceback.format_exception(problem)))
    try:
        ForkingPickler.loads(ForkingPickler.dumps(problem))
    except Exception:
        return RuntimeError(f"{type(problem).__name__}: {problem}")
    return problem


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
