"""The base class of everything that a worker can time; each kind of backend is one subclass."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from stale_bench.benchmark_inputs import video_features
from stale_bench.protocol import BackendJob, Facts, Found
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BenchmarkError
from stale_runtime.segments import FloatArray

Step: TypeAlias = Callable[[], Any]
"""Something that is timed."""
ANY_DURATION_S = 60.0
"""How long a video lasts that is only timed."""


class Engine(ABC):
    """A backend loaded for one length.

    The stage ``import`` is the time to import its module, ``load`` the time to construct it.
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
        """``prompts_warm`` and ``prompts_cold``, if the backend encodes prompts separately from the video."""
        return {}

    @abstractmethod
    def steps(self, features: FloatArray) -> Mapping[str, Step]:
        """What is timed for each video: ``forward``, and those of ``resample``, ``decode``, ``end_to_end`` that exist.

        Args:
            features: (T0, C)
        """

    def video_steps(self, path: Path) -> Mapping[str, Step]:
        """What is timed if the job has a mode: ``video``, from a feature file to detections.

        A network with random weights has ``forward`` instead.

        Args:
            path: the feature file.

        Raises:
            FeatureError: the file cannot be used.
        """
        return {"video": lambda: self.detect(path, ANY_DURATION_S)}

    @abstractmethod
    def facts(self, features: FloatArray) -> Facts:
        """Count multiplications and measure the size of the file.

        Args:
            features: (T0, C) of the video that the count is for.
        """

    def detect(self, path: Path, _duration_s: float) -> Found:
        """Find actions in the video of a feature file; the video's duration is in seconds.

        Raises:
            BenchmarkError: this backend has no trained weights.
            FeatureError: the file cannot be used.
        """
        raise BenchmarkError(f"{self.job.backend}: cannot find anything in {path}, because its weights are random")
