"""What to measure: a user's request, the plan with everything it needs, and the job of one worker."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from stale_bench.benchmark_backends import Backend
from stale_bench.benchmark_inputs import Evaluation, MeasuredVideos
from stale_bench.footage import Footage
from stale_bench.protocol import BackendJob, ExportJob, Mode, PeakJob
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inputs.prompts import Prompts

ROW_S = 30.0
"""Seconds for each backend and length unless the request says otherwise."""


class BenchmarkCase(NamedTuple):
    """What a backend is measured at."""

    length: int
    """T in snippets; with ``windows``, of a window."""
    snippets: int | None = None
    """N, of the video; None to time each stage of the network at T, on any video."""
    mode: Mode | None = None
    """How the video is processed; None if it has no given number of snippets."""

    @property
    def of_baseline(self) -> "BenchmarkCase":
        """The case in which the baseline is measured: a whole video at its own length, as the original takes it."""
        return self if self.snippets is None else BenchmarkCase(self.snippets, self.snippets, "whole")


class Key(NamedTuple):
    """A row of the report."""

    backend: Backend
    case: BenchmarkCase


@dataclass(frozen=True, kw_only=True)
class BenchmarkRequest:
    """What a user asks to be measured, and how thoroughly."""

    backends: tuple[str, ...] = ()
    """Keys of ``BACKENDS``, or ``all``; empty for the backends of ``stale_runtime`` that can run here."""
    where_possible: tuple[str, ...] = ()
    """Backends that are measured too if they can run here."""
    device: Literal["cpu", "cuda"] = "cpu"
    lengths: tuple[int, ...] = ()
    """T in snippets; empty for the trained one."""
    snippets: tuple[int, ...] = ()
    """N, of videos that are timed from features to detections; empty to time each stage of the network instead."""
    bundle: Path | None = None
    """None to look where ``find_bundle`` does."""
    threads: int = 1
    """Threads that an operator may use."""
    baseline: str | None = None
    """Backend that the others' times are divided by; None for the first."""
    features: Path | None = None
    """Folder of feature files; None for random features."""
    ground_truth: Path | None = None
    """Annotations for mAP; None for no mAP."""
    subset: str | None = None
    """Subset of the annotations; None for all."""
    video_info: Path | None = None
    """File with the subset of each video; None to take the subsets from the annotations."""
    prompts: Path | None = None
    """File of class names; None for those whose embeddings are in the bundle."""
    budget_s: float | None = None
    """Seconds for everything, although each row gets one launch in any case; None for ``row_budget_s`` for each row."""
    row_budget_s: float | None = ROW_S
    """Seconds for each backend and length; None for as long as it takes."""
    seed: int = 0
    """Seed of random features, random weights, the choice of files and the order of turns."""
    launches: int = 8
    """Most processes that are started for each backend and length."""
    rounds: tuple[int, int] = (2, 30)
    """Fewest and most turns that a process gets."""
    cold_prompts: bool = True
    """Whether to time the encoding of prompts that are in no cache."""
    peak: bool = True
    """Whether to measure how fast the CPU multiplies, which needs onnx, for the table of ``lengths``."""

    def __post_init__(self) -> None:
        if self.ground_truth is not None and self.features is None:
            raise ValueError("--ground-truth without --features; give the folder of these videos' feature files")
        if self.subset is not None and self.ground_truth is None:
            raise ValueError("--subset without --ground-truth; give the annotations that the subset belongs to")
        if self.video_info is not None and self.ground_truth is None:
            raise ValueError("--video-info without --ground-truth; give the annotations that it belongs to")
        if min(self.snippets, default=1) < 1:
            raise ValueError(f"{min(self.snippets)} snippets, expected at least 1")
        if self.launches < 1 or not 1 <= self.rounds[0] <= self.rounds[1]:
            raise ValueError(f"{self.launches} launches, rounds {self.rounds}, expected at least 1 of each")
        if self.budget_s is not None and not self.budget_s > 0:
            raise ValueError(f"budget_s {self.budget_s}, expected a positive number of seconds")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request, and what had to be found out before it can be carried out."""

    request: BenchmarkRequest
    backends: tuple[Backend, ...]
    bundle: Bundle
    classes: Prompts
    cache: Path
    """Folder of a prompt cache that has the embeddings of all classes."""
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Why backends that would have been measured cannot run here, by name."""
    cpus: tuple[int, ...] = ()
    """CPUs that workers stay on; empty if the system cannot pin a process."""
    videos: MeasuredVideos | None = None
    """Feature files to time on; None for random features."""
    evaluation: Evaluation | None = None
    """What to compute mAP on; None for no mAP."""
    footage: Mapping[int, Footage] = field(default_factory=dict)
    """Videos by N, for each N of the request."""

    def __post_init__(self) -> None:
        if not self.backends:
            raise ValueError("no backend, expected at least one")
        if missing := set(self.request.snippets) - self.footage.keys():
            raise ValueError(f"no footage of {min(missing)} snippets")

    @property
    def lengths(self) -> tuple[int, ...]:
        """T in snippets."""
        return self.request.lengths or (self.bundle.manifest.temporal_scale,)

    @property
    def groups(self) -> tuple[tuple[Key, ...], ...]:
        """All rows; those whose processes take turns are in one group."""
        if not self.request.snippets:
            return tuple(
                tuple(Key(backend, BenchmarkCase(length)) for backend in self.backends) for length in self.lengths
            )
        return tuple(
            tuple(Key(backend, case) for backend in self.backends for case in self._cases(backend, snippets))
            for snippets in self.request.snippets
        )

    def _cases(self, backend: Backend, snippets: int) -> list[BenchmarkCase]:
        """A whole video at each T and at its own length, if the network takes that, and a video as by default.

        A network that does not detect anything is only there to be compared with: as the original, at T = N.
        """
        lengths = self.lengths if backend.detects else ()
        if layout.SHORTEST <= snippets <= layout.LONGEST:
            lengths = (*lengths, snippets)
        cases = [BenchmarkCase(length, snippets, "whole") for length in dict.fromkeys(lengths)]
        if backend.localizer is not None:
            cases.append(BenchmarkCase(self.bundle.manifest.temporal_scale, snippets, "windows"))
        return cases

    @property
    def baseline(self) -> str:
        """Name of the backend that the others' times are divided by."""
        return self.request.baseline or self.backends[0].name

    @property
    def budget_s(self) -> float | None:
        """Seconds for everything; None for as long as it takes."""
        if self.request.budget_s is not None or self.request.row_budget_s is None:
            return self.request.budget_s
        return self.request.row_budget_s * sum(map(len, self.groups))


def make_job(plan: Plan, backend: Backend, case: BenchmarkCase, launch: int) -> BackendJob:
    """The job of a worker that runs a backend in a case; each launch times another video."""
    features = None
    if case.snippets is not None:
        footage = plan.footage[case.snippets]
        features = str(footage.videos.files[footage.timed_video(launch)])
    elif plan.videos is not None:
        files = random.Random(plan.request.seed).sample(list(plan.videos.files.values()), len(plan.videos.files))
        features = str(files[launch % len(files)])
    return BackendJob(
        bundle=str(plan.bundle.path),
        backend=backend.name,
        engine=backend.engine,
        file=backend.file,
        precision=backend.precision,
        length=case.length,
        mode=case.mode,
        classes=plan.classes.names,
        threads=plan.request.threads,
        cpus=plan.cpus,
        seed=plan.request.seed + launch,
        features=features,
        cache=str(plan.cache),
    )


def make_export_job(plan: Plan, backend: Backend, case: BenchmarkCase) -> ExportJob | None:
    """The job of the worker that makes what a backend runs in a case; None if that needs no making."""
    if backend.exporter is None:
        return None
    return ExportJob(exporter=backend.exporter, **vars(make_job(plan, backend, case, 0)))


def make_peak_job(plan: Plan) -> PeakJob:
    """The job of the worker that measures how fast the machine multiplies."""
    return PeakJob(
        bundle=str(plan.bundle.path),
        backend="peak",
        classes=(),
        threads=plan.request.threads,
        cpus=plan.cpus,
        seed=plan.request.seed,
    )
