"""What a worker can do with a backend; a new kind of backend is one class that does it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from stale_bench.benchmark_inputs import video_features
from stale_bench.protocol import BackendJob, Facts
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.detections import Detection
from stale_runtime.errors import BenchmarkError
from stale_runtime.segments import FloatArray

Step: TypeAlias = Callable[[], Any]
"""Something that is timed."""


class Engine(ABC):
    """A backend loaded for one length.

    Importing its module is the stage ``import``, constructing it the stage ``load``.
    """

    loads: ClassVar[bool] = True
    """Whether constructing it loads what an application would load, so that it is worth timing."""

    def __init__(self, job: BackendJob) -> None:
        """Load the backend.

        Raises:
            StaleError: it cannot run with this bundle or on this machine.
        """
        self.job = job
        self.bundle = Bundle(Path(job.bundle))

    def features(self) -> FloatArray:
        """The video that is timed, before it is resampled: (T0, C)."""
        return video_features(self.job, self.bundle.manifest.channels)

    def prompt_steps(self) -> Mapping[str, Step]:
        """``prompts_warm`` and ``prompts_cold``, where prompts are encoded apart from the video."""
        return {}

    @abstractmethod
    def steps(self, features: FloatArray) -> Mapping[str, Step]:
        """What is timed for each video: ``forward``, and of ``resample``, ``decode``, ``end_to_end`` what there is.

        Args:
            features: (T0, C)
        """

    @abstractmethod
    def facts(self, features: FloatArray) -> Facts:
        """Count multiplications and weigh the file.

        Args:
            features: (T0, C) of the video that the count is for.
        """

    def detect(self, path: Path, _duration_s: float) -> tuple[Detection, ...]:
        """Find actions in the video of a feature file, which lasts that many seconds.

        Raises:
            BenchmarkError: this backend has no trained weights.
            FeatureError: the file cannot be used.
        """
        raise BenchmarkError(f"{self.job.backend}: cannot find anything in {path}, because its weights are random")
