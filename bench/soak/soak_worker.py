"""A worker that goes through the rounds of a soak in a new process."""

from pathlib import Path
from typing import Any

from stale_bench.protocol import Answer, Question, RunRound, SoakJob
from stale_bench.soak.rounds import Rounds
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inference.settings import Settings
from stale_runtime.inputs.prompts import Prompts


class SoakWorker:
    """A localizer of its own, and the videos of the soak."""

    def __init__(self, job: SoakJob) -> None:
        """Open the bundle, and go through all videos for the first time.

        Raises:
            StaleError: the bundle cannot be used, or has been replaced.
        """
        settings = Settings(
            backend=job.backend,
            length=job.length,
            threads=job.threads,
            decoder=job.decoder,
            cache_folder=Path(job.cache_folder) if job.cache_folder is not None else None,
            cache=job.cache,
        )
        localizer = Localizer(Bundle(Path(job.bundle), expect_sha256=job.sha256), settings)
        classes = Prompts.of(job.classes)
        self._rounds = Rounds(localizer, classes, videos=job.videos, seed=job.seed, folder=Path(job.folder))

    def answer(self, question: Question[Any]) -> Answer:
        """Go through all videos again."""
        if isinstance(question, RunRound):
            return self._rounds.run()
        raise TypeError(f"a soak's worker cannot answer {question}")
