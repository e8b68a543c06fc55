"""A worker as the benchmark sees it."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import Any

from stale_bench.protocol import Job, to_line

LONGEST_ANSWER_S = 1800.0
"""A worker that has not answered by then hangs."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerError(Exception):
    """A worker died, or could not do what it was asked; the message says so for a report."""


class Child:
    """A worker's process. Close it, or use it as a context manager."""

    def __init__(self, job: Job) -> None:
        """Start a worker; it imports and loads at once.

        Args:
            job: what it is for.
        """
        self._resources = ExitStack()
        self._stderr = self._resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 -- it is one
        environment = {**os.environ, **{name: str(job.threads) for name in _THREAD_VARIABLES}}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stale_bench.measuring.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            text=True,
            start_new_session=True,  # so that Ctrl-C is for the benchmark alone
        )
        self._send(job.to_line())

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Have the worker do something.

        Raises:
            WorkerError: it died, hangs, or says that it cannot.
        """
        self._send(to_line({"do": request, **arguments}))
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], LONGEST_ANSWER_S)[0]:
            raise WorkerError(f"no answer for {LONGEST_ANSWER_S:.0f} s")
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise WorkerError(self._cause_of_death())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def end_of_input(self) -> int:
        """Say that nothing more will be asked, as the end of this process would, and wait for the exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait()

    def close(self) -> None:
        """End the worker, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:  # what it was told last never reached it
                continue
        self._resources.close()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:  # the answer will not come, which says more
            return

    def _cause_of_death(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "killed by SIGKILL, as the system does when memory runs out"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        return f"ended with code {code}" + (f": {last[:200]}" if last else "")
