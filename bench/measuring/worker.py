"""A worker process: ``python -P -m stale_bench.measuring.worker``.

The first line on its standard input is a ``Job``, each further line a ``Question``; it answers each question with a
line on its standard output. It imports only what the job names, because importing is one of the stages that are timed.
"""

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TextIO

from stale_bench.protocol import Answer, Failure, Job, Question, from_line, to_line


class Worker(Protocol):
    """What a job's ``worker`` names."""

    def answer(self, question: Question[Any]) -> Answer:
        """Do what is asked."""


def serve(job: Job, questions: Iterable[str], replies: TextIO) -> None:
    """Answer questions until there are no more or one fails."""

    def reply(answer: Answer) -> None:
        print(to_line(answer), end="", file=replies, flush=True)

    try:
        worker: Worker = import_named(job.worker)(job)
        for line in questions:
            question = from_line(line)
            assert isinstance(question, Question)
            reply(worker.answer(question))
    except Exception as problem:  # whatever goes wrong in a backend is reported in its row
        is_ours = hasattr(problem, "exit_code")  # a StaleError, whose message needs no type; not imported for its cost
        text = str(problem) if is_ours else f"{type(problem).__name__}: {problem}"
        reply(Failure(reason=" ".join(text.split())[:300]))


def import_named(name: str) -> Any:
    """Import what ``module:name`` stands for."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def main() -> None:
    """Run a worker."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that nothing that a library prints is taken for an answer
    job = from_line(sys.stdin.readline())
    assert isinstance(job, Job)
    if job.cpus:
        os.sched_setaffinity(0, job.cpus)
    _be_killed_first_when_memory_runs_out()
    serve(job, sys.stdin, replies)


def _be_killed_first_when_memory_runs_out() -> None:
    """Let the kernel kill this process rather than the benchmark, which can then report it."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


if __name__ == "__main__":
    main()
