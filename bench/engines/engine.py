"""What a worker can do with a backend; a new kind of backend is one class that does it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

from stale_bench.benchmark_inputs import video_features
from stale_bench.protocol import Job
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.detections import Detection
from stale_runtime.errors import BenchmarkError
from stale_runtime.segments import FloatArray

Step: TypeAlias = Callable[[], Any]
"""Something that is timed."""


class Facts(NamedTuple):
    """What a backend is, beside how fast."""

    file_mb: float | None
    """What it loads to run the network, in megabytes."""
    gmacs: float | None
    """Billions of multiplications in the matrix products and convolutions of a forward pass."""
    int8_share: float | None
    """Of them, those of integers, in [0, 1]."""
    gpu: Mapping[str, float] | None = None
    """Figures of a GPU: ``memory_mb``, ``utilisation``."""


class Engine(ABC):
    """A backend loaded for one length. Its constructor is the ``load`` stage; the module's import the ``import``."""

    loads: ClassVar[bool] = True
    """Whether constructing it loads what would be deployed, so that it is worth timing."""

    def __init__(self, job: Job) -> None:
        """Load.

        Raises:
            StaleError: the bundle, or the machine, does not let it run.
        """
        self.job = job
        self.bundle = Bundle(Path(job.bundle))

    def features(self) -> FloatArray:
        """The video that is timed, as extracted: (T0, C)."""
        return video_features(self.job, self.bundle.manifest.channels)

    def prompt_steps(self) -> Mapping[str, Step]:
        """``prompts_warm`` and ``prompts_cold``, where prompts are encoded apart from the video."""
        return {}

    @abstractmethod
    def steps(self, features: FloatArray) -> Mapping[str, Step]:
        """What is timed for each video: ``forward``, and ``resample``, ``decode``, ``end_to_end`` where there is such.

        Args:
            features: (T0, C)
        """

    @abstractmethod
    def facts(self, features: FloatArray) -> Facts:
        """Count and weigh.

        Args:
            features: (T0, C) of the video that the count is for.
        """

    def detect(self, path: Path, duration_s: float) -> tuple[Detection, ...]:
        """Find actions in the video of a feature file.

        Raises:
            BenchmarkError: this backend has no trained weights.
            FeatureError: the file cannot be used.
        """
        raise BenchmarkError(f"{self.job.backend}: finds nothing, its weights are not trained")
