"""A pool of worker processes that loses only what a worker had in hand when it died.

``concurrent.futures`` and ``multiprocessing.Pool`` share queues and locks among their workers, and so one that is
killed breaks or blocks all. Here each worker has a pipe of its own, and the pool knows what it is working on.
"""

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from selectors import EVENT_READ, DefaultSelector
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias

from stale_runtime.batch.lost_work import Ended
from stale_runtime.batch.worker_process import Item, Message, Result, Work, serve
from stale_runtime.errors import WorkerError

LOOK_AHEAD = 4096
"""Results that may wait for an earlier one, at most 30 kB each for videos that are not long."""
MOST_STARTS = 3
"""Workers that may end one after the other before they are ready."""
_SHORT_S = 0.2
"""A worker whose last group took no longer gets the next one before it has finished, so that it never waits."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a whole group of processes may get, but only the one that started them acts on."""
_Group: TypeAlias = deque[tuple[int, Item]]
"""Items with their numbers."""


class WorkerPool(Generic[Item, Result]):
    """Worker processes, started when there is something to do and ended at the end of a ``with`` block.

    Workers get no SIGINT, SIGTERM or SIGHUP, and end at once if this process ends in whatever way.
    """

    def __init__(
        self,
        work: Work[Item, Result],
        *,
        workers: int,
        look_ahead: int = LOOK_AHEAD,
        clean_up: Callable[[], object] = lambda: None,
    ) -> None:
        """Args:
        work: what is done with each item.
        workers: how many processes, at most.
        look_ahead: most results that wait for an earlier one.
        clean_up: called after a worker was killed, to remove what it left.
        """
        self._work, self._payload = work, bytes(ForkingPickler.dumps(work))
        self._most, self._look_ahead, self._clean_up = workers, look_ahead, clean_up
        self._selector = DefaultSelector()
        self._workers: list[_Worker[Item]] = []
        self._failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        was_busy = any(worker.groups for worker in self._workers)
        with _signals_blocked():
            for worker in self._workers:
                worker.process.kill()
            for worker in self._workers:
                worker.end()
            self._workers.clear()
            self._selector.close()
        if was_busy:
            self._clean_up()

    def process(
        self,
        groups: Iterable[Sequence[Item]],
        *,
        on_done: Callable[[Item, Result], object] = lambda *_: None,
        is_last: Callable[[Result], bool] = lambda _: False,
    ) -> Iterator[Result]:
        """Process groups of items.

        If a worker dies, the groups that it had not begun go to others. So does the one in hand, item by item, unless
        only one item of it is left: that one is lost.

        Args:
            groups: a worker gets the items of a group together.
            on_done: called for each item as soon as it is done, in whatever order.
            is_last: whether no item after this result's is wanted.

        Yields:
            The result of each item, in order; what the work says of items that are lost.

        Raises:
            WorkerError: no worker can be started.
            Exception: what a worker raised.
        """
        run = _Progress(groups, on_done, is_last)
        while not run.is_over:
            self._give_out(run)
            is_there = run.next_result_is_there
            for key, _ in self._selector.select(0 if is_there else None):
                self._receive(key.data, run)
            if is_there:
                yield run.take_result()

    def _give_out(self, run: "_Progress[Item, Result]") -> None:
        """Give groups to workers that have little to do, and start workers if more are wanted."""
        for held in (0, 1):
            for worker in [worker for worker in self._workers if worker.wants(held)]:
                group = run.next_group(self._look_ahead)
                if group is None:
                    return
                if not worker.give(group):
                    run.give_back(group)
                    self._bury(worker, run)
        waiting = len(self._workers) - sum(worker.is_ready for worker in self._workers)
        while len(self._workers) < self._most and run.has_more_than(waiting):
            self._start()
            waiting += 1

    def _start(self) -> None:
        try:
            with _signals_blocked():
                resource_tracker.ensure_running()  # Python's; it would unblock the signals while a worker starts
            with _signals_blocked():
                worker: _Worker[Item] = _Worker()
                self._workers.append(worker)
                self._selector.register(worker.connection, EVENT_READ, worker)
        except OSError as problem:
            raise WorkerError(
                f"--workers {self._most}: no process can be started ({problem.strerror or problem}); give fewer "
                "--workers, or raise the limits on processes and open files (ulimit -u, ulimit -n)"
            ) from problem

    def _receive(self, worker: "_Worker[Item]", run: "_Progress[Item, Result]") -> None:
        if worker not in self._workers:  # it was buried while another message was read
            return
        try:
            message, value = worker.connection.recv()
            if message is Message.STARTED:
                worker.connection.send_bytes(self._payload)
        except (EOFError, OSError):
            self._bury(worker, run)
            return
        if message is Message.READY:
            worker.is_ready, self._failed_starts = True, 0
        elif message is Message.DONE:
            run.settle(*worker.take_done(), value)
        elif message is Message.FAILED:
            raise value

    def _bury(self, worker: "_Worker[Item]", run: "_Progress[Item, Result]") -> None:
        """Find out how a worker ended, and who gets what it had."""
        self._workers.remove(worker)
        self._selector.unregister(worker.connection)
        ended = worker.end()
        self._clean_up()
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_STARTS:
                raise WorkerError(
                    f"--workers {self._most}: {MOST_STARTS} processes in a row ended before they were ready, the last "
                    f"one {ended}; give fewer --workers if memory runs out, and else leave out --workers to see why"
                )
        for group in reversed(list(worker.groups)[1:]):
            run.give_back(group)
        if worker.groups:
            begun = worker.groups[0]
            if len(begun) == 1:
                number, item = begun[0]
                run.settle(number, item, self._work.lost(item, ended))
            else:
                for single in reversed(begun):
                    run.give_back(deque([single]))


class _Progress(Generic[Item, Result]):
    """Which items have been given out, and which results are there."""

    def __init__(
        self,
        groups: Iterable[Sequence[Item]],
        on_done: Callable[[Item, Result], object],
        is_last: Callable[[Result], bool],
    ) -> None:
        self._groups, self._on_done, self._is_last = iter(groups), on_done, is_last
        self._waiting: deque[_Group[Item]] = deque()
        """What comes next: groups that were given back, and those that were asked for to see whether there are any."""
        self._results: dict[int, Result] = {}
        self._taken = 0
        """Results that were yielded."""
        self._numbered = 0
        """Items that have a number."""
        self._last: int | None = None
        """Number of the last item that is wanted, if that is known before the end."""

    @property
    def next_result_is_there(self) -> bool:
        return self._taken in self._results

    @property
    def is_over(self) -> bool:
        if self._last is not None:
            return self._taken > self._last
        return self._taken == self._numbered and not self.has_more_than(0)

    def take_result(self) -> Result:
        self._taken += 1
        return self._results.pop(self._taken - 1)

    def has_more_than(self, count: int) -> bool:
        """Whether more than so many groups wait to be given out."""
        while len(self._waiting) <= count:
            items = next(self._groups, None)
            if items is None:
                return False
            self._waiting.append(deque(enumerate(items, self._numbered)))
            self._numbered += len(items)
        return True

    def next_group(self, look_ahead: int) -> "_Group[Item] | None":
        """The next group to be processed; None if there is none, or none yet."""
        if not self.has_more_than(0):
            return None
        first, _ = self._waiting[0][0]
        is_early = first >= self._taken + look_ahead
        is_unwanted = self._last is not None and first > self._last
        return None if is_early or is_unwanted else self._waiting.popleft()

    def give_back(self, group: "_Group[Item]") -> None:
        self._waiting.appendleft(group)

    def settle(self, number: int, item: Item, result: Result) -> None:
        self._results[number] = result
        if self._is_last(result):
            self._last = number if self._last is None else min(self._last, number)
        self._on_done(item, result)


class _Worker(Generic[Item]):
    """A process, the pipe to it, and what it has in hand."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self.connection: Connection[Any, Any] = ours
        self.process: SpawnProcess = context.Process(target=serve, args=(theirs,))
        try:
            self.process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()  # so that ours sees when the process has ended
        self.is_ready = False
        self.groups: deque[_Group[Item]] = deque()
        """In the order in which it gets them, without the items that are done."""
        self._begun_s = self._took_s = 0.0

    def wants(self, held: int) -> bool:
        """Whether it should get a group, if it has so many now."""
        return self.is_ready and len(self.groups) == held and (not held or 0 < self._took_s <= _SHORT_S)

    def give(self, group: "_Group[Item]") -> bool:
        """Send a group; returns whether the process is still there."""
        try:
            self.connection.send([item for _, item in group])
        except OSError:
            return False
        if not self.groups:
            self._begun_s = time.perf_counter()
        self.groups.append(group)
        return True

    def take_done(self) -> tuple[int, Item]:
        """The item that was in hand and is done, with its number."""
        group = self.groups[0]
        done = group.popleft()
        if not group:
            self.groups.popleft()
            now_s = time.perf_counter()
            self._took_s, self._begun_s = now_s - self._begun_s, now_s
        return done

    def end(self) -> Ended:
        """End the process if it has not ended; returns how it did."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        return Ended(self.process.exitcode)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Hold back the signals that end a run. Processes that are started meanwhile never get them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
