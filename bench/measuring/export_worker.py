"""A worker that makes the file that a backend runs, in a process of its own, whose memory and time are not measured."""

from typing import Any

from stale_bench.measuring.worker import import_named
from stale_bench.protocol import Answer, Export, Exported, ExportJob, Question


class ExportWorker:
    """Calls the exporter that the job names."""

    def __init__(self, job: ExportJob) -> None:
        self._job = job

    def answer(self, question: Question[Any]) -> Answer:
        """Do what is asked."""
        if not isinstance(question, Export):
            raise TypeError(f"an exporting worker cannot answer {question}")
        import_named(self._job.exporter)(self._job)
        return Exported()
