"""A worker process as its parent sees it."""

import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from typing import IO, cast

from stale_bench.protocol import A, Failure, Job, Message, Question, from_line, to_line

LONGEST_ANSWER_S = 1800.0
"""A worker that takes longer than this to answer counts as hanging."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerError(Exception):
    """A worker died, or could not do what it was asked; the message says which."""


class Child:
    """A worker process. Close it, or use it as a context manager."""

    def __init__(self, job: Job) -> None:
        """Start a worker, which begins to import and load at once."""
        self._resources = ExitStack()
        self._stderr = self._resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 -- closed by the stack
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stale_bench.measuring.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **{name: str(job.threads) for name in _THREAD_VARIABLES}},
            text=True,
            start_new_session=True,  # so that Ctrl-C interrupts only the parent
        )
        self._questions = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)
        self._send(job)

    def ask(self, question: Question[A]) -> A:
        """Have the worker do something, and wait for its answer.

        Raises:
            WorkerError: it died, hangs, or reports a failure.
        """
        self._send(question)
        if not select.select([self._answers], [], [], LONGEST_ANSWER_S)[0]:
            raise WorkerError(f"no answer for {LONGEST_ANSWER_S:.0f} s")
        line = self._answers.readline()
        if not line.endswith("\n"):
            raise WorkerError(self._cause_of_death())
        answer = from_line(line)
        if isinstance(answer, Failure):
            raise WorkerError(answer.reason)
        return cast(A, answer)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def close(self) -> None:
        """End the worker, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._questions, self._answers):
            with suppress(BrokenPipeError):  # the last question may still be in the buffer
                stream.close()
        self._resources.close()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: Message) -> None:
        with suppress(BrokenPipeError):  # waiting for the answer then finds out why the worker died
            self._questions.write(to_line(message))
            self._questions.flush()

    def _cause_of_death(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "killed by SIGKILL, as the system does when memory runs out"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        return f"ended with code {code}" + (f": {last[:200]}" if last else "")
