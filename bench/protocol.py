"""The messages between a benchmark and its worker processes: one line of JSON for each message.

A worker imports this module before its clock starts, so the module imports nothing but the standard library.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

Mode: TypeAlias = Literal["whole", "windows"]
"""How a video of given snippets is processed: resampled to T as a whole, or as ``stale-run`` does by default, which is
window by window unless it is short."""


class Message:
    """A dataclass whose fields are plain values, tuples of them, or mappings from names to them."""

    _kinds: ClassVar[dict[str, type["Message"]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Message._kinds[cls.__name__] = cls


def to_line(message: Message) -> str:
    """Write a message as one line of JSON."""
    return json.dumps({"kind": type(message).__name__, **vars(message)}) + "\n"


def from_line(line: str) -> Message:
    """Read what ``to_line`` wrote."""
    content = json.loads(line)
    kind = Message._kinds[content.pop("kind")]
    return kind(**{name: _with_tuples(value) for name, value in content.items()})


@dataclass(frozen=True, kw_only=True)
class Job(Message):
    """What a worker process is started for: the first message that it gets."""

    worker: ClassVar[str]
    """``module:Class`` of what answers the questions; it is constructed with the job."""
    bundle: str
    """The bundle's folder."""
    backend: str
    """Name of the backend."""
    classes: tuple[str, ...]
    """K class names, without the prompt template."""
    threads: int
    """Threads that an operator may use."""
    cpus: tuple[int, ...]
    """CPUs that the worker stays on; empty if the system cannot pin a process."""
    seed: int
    """Seed of random features, and of the weights of networks that are not trained."""


@dataclass(frozen=True, kw_only=True)
class BackendJob(Job):
    """Run one backend at one length."""

    worker: ClassVar[str] = "stale_bench.measuring.engine_worker:EngineWorker"
    engine: str
    """``module:Class`` of the ``stale_bench.engines.engine.Engine`` that runs the backend."""
    file: str | None
    """The bundle's file that the backend loads; None if it loads none."""
    precision: Literal["fp32", "bf16", "int8"]
    """Precision of products with weights."""
    length: int
    """T in snippets."""
    mode: Mode | None
    """What is timed: a video from its file to its detections in this mode, or, for None, each stage alone."""
    features: str | None
    """The feature file of the video that is timed; None for random features, which a mode does not have."""
    cache: str
    """Folder of the prompt cache."""


@dataclass(frozen=True, kw_only=True)
class ExportJob(BackendJob):
    """Make the file that a backend runs at one length, before anything is timed."""

    worker: ClassVar[str] = "stale_bench.measuring.export_worker:ExportWorker"
    exporter: str
    """``module:function`` that is called with this job, and writes into the folder ``cache``."""


@dataclass(frozen=True, kw_only=True)
class PeakJob(Job):
    """Measure how fast this machine multiplies."""

    worker: ClassVar[str] = "stale_bench.measuring.peak_worker:PeakWorker"


@dataclass(frozen=True, kw_only=True)
class SoakJob(Job):
    """Go through the rounds of a soak in a new process."""

    worker: ClassVar[str] = "stale_bench.soak.soak_worker:SoakWorker"
    sha256: str
    """Hash that the bundle's manifest must have: the bundle may have been replaced since the soak began."""
    length: int | Literal["auto"]
    """T in snippets, or ``auto``."""
    decoder: str
    cache_folder: str | None
    """Folder of the prompt cache; None for the default folder."""
    cache: bool
    """Whether prompts are cached on disk."""
    videos: int
    """Videos in a round."""
    folder: str
    """Where feature files are written; the parent removes them, because a killed process cannot."""


@dataclass(frozen=True, kw_only=True)
class Answer(Message):
    """What a worker replies."""


@dataclass(frozen=True, kw_only=True)
class Failure(Answer):
    """The worker could not do what it was asked, and ends."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Started(Answer):
    """The backend is loaded."""

    startup_ms: Mapping[str, float]
    """Milliseconds of each stage until it was loaded."""
    imported_rss_mb: float
    """Peak memory when everything was imported, but nothing was loaded."""


@dataclass(frozen=True, kw_only=True)
class WarmedUp(Answer):
    """The caches are warm."""

    main_ms: tuple[float, ...]
    """Milliseconds of each forward pass of the warm-up, or of each video if the job has a mode."""
    repeat_ms: float
    """Milliseconds that all steps take together."""


@dataclass(frozen=True, kw_only=True)
class Samples(Answer):
    """Times of one turn."""

    stages_ms: Mapping[str, tuple[float, ...]]
    """Milliseconds of each repetition, by stage."""


@dataclass(frozen=True, kw_only=True)
class PeakMemory(Answer):
    """The peak memory of the worker."""

    rss_mb: float


@dataclass(frozen=True, kw_only=True)
class ColdPrompts(Answer):
    """How long it takes to encode prompts that are in no cache."""

    milliseconds: float | None
    """None for a backend that does not encode prompts apart from the video."""


@dataclass(frozen=True, kw_only=True)
class Facts(Answer):
    """What is known about a backend besides its speed."""

    file_mb: float | None
    """Size of what it loads to run the network, in megabytes."""
    gmacs: float | None
    """Billions of multiplications in the matrix products and convolutions of a forward pass."""
    int8_share: float | None
    """Share of these multiplications that is done in int8, in [0, 1]."""
    gpu: Mapping[str, float] | None = None
    """Figures of a GPU: ``memory_mb``, and ``utilisation`` in [0, 1] if the driver tells."""
    recomputed: bool | None = None
    """As in ``Found``, for the video that was timed."""


@dataclass(frozen=True, kw_only=True)
class Found(Answer):
    """The detections of a video."""

    detections: tuple[tuple[str, float, float, float], ...]
    """Label, start, end and score of each, as in ``stale_runtime.Detection``."""
    recomputed: bool | None = None
    """Whether an approximation was too far off, so that the video, or a window of it, was computed exactly.

    It is None for a backend that does not approximate.
    """


@dataclass(frozen=True, kw_only=True)
class RoundCost(Answer):
    """What it took to detect in every video of a soak once."""

    wall_s: float
    cpu_s: float
    changed: int
    """Videos whose detections differ from those of the first round."""


@dataclass(frozen=True, kw_only=True)
class Exported(Answer):
    """The file has been written."""


@dataclass(frozen=True, kw_only=True)
class Peak(Answer):
    """The most multiplications that this machine was seen to do."""

    gmacs_per_s: Mapping[str, float]
    """Billions of multiply-accumulates a second, by kind of product: see ``peak_worker.KINDS``."""


A = TypeVar("A", bound=Answer)


class Question(Message, Generic[A]):
    """Something that a worker can be asked, and answers with an ``A``."""


@dataclass(frozen=True, kw_only=True)
class Start(Question[Started]):
    """Report how long it took to load the backend."""


@dataclass(frozen=True, kw_only=True)
class WarmUp(Question[WarmedUp]):
    """Run the backend until its caches are warm."""


@dataclass(frozen=True, kw_only=True)
class TakeSamples(Question[Samples]):
    """Time every stage."""

    repeats: int
    """How many times each stage is timed."""


@dataclass(frozen=True, kw_only=True)
class ReadPeakMemory(Question[PeakMemory]):
    """Report the worker's peak memory."""


@dataclass(frozen=True, kw_only=True)
class EncodeColdPrompts(Question[ColdPrompts]):
    """Open the text tower and encode all prompts."""


@dataclass(frozen=True, kw_only=True)
class GatherFacts(Question[Facts]):
    """Count multiplications and measure the size of the file."""


@dataclass(frozen=True, kw_only=True)
class Detect(Question[Found]):
    """Find the actions of a video."""

    path: str
    """The feature file."""
    duration_s: float
    """How long the video lasts."""


@dataclass(frozen=True, kw_only=True)
class Export(Question[Exported]):
    """Export the network."""


@dataclass(frozen=True, kw_only=True)
class MeasurePeak(Question[Peak]):
    """Multiply for some seconds."""


@dataclass(frozen=True, kw_only=True)
class RunRound(Question[RoundCost]):
    """Detect in every video of a soak once."""


def _with_tuples(value: Any) -> Any:
    """Turn JSON's lists back into the tuples that they were written from."""
    if isinstance(value, list):
        return tuple(map(_with_tuples, value))
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return value
