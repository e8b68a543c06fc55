"""The backends by name, and whether they can run here."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BenchmarkError, BundleError, MissingPackageError, StaleError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, LocalizerBackend, backend_problem

FP32 = "ort-fp32"
"""The backend whose mAP the others' mAP is compared with."""
ALL = "all"
"""Stands for every backend that can run here."""
QUANTIZER = "torch.ao.quantization.quantize"


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to run the network."""

    name: str
    engine: str
    """``module:Class`` of the ``stale_bench.engines.engine.Engine`` that a worker runs it with."""
    needs: tuple[str, ...] = ()
    """Modules that it imports in addition to the runtime's own."""
    exporter: str | None = None
    """``module:function`` that makes what it runs at a length, once, before anything is timed; None if nothing does."""
    compiles: bool = False
    """Whether it needs a C++ compiler."""
    file: str | None = None
    """The file of the bundle that it loads; None if it draws random weights instead."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """Precision of products with weights."""
    device: Literal["cpu", "cuda"] = "cpu"
    localizer: LocalizerBackend | None = None
    """The backend of ``stale_runtime`` that this is; None for one that only the benchmark runs."""
    detects: bool = True
    """Whether it has trained weights, and so an mAP."""

    @classmethod
    def of_localizer(cls, backend: LocalizerBackend) -> "Backend":
        """A backend of ``stale_runtime``, run as an application runs it."""
        return cls(
            name=backend.name,
            engine="stale_bench.engines.localizer_engine:LocalizerEngine",
            needs=(backend.engine,),
            file=backend.file,
            precision=backend.precision,
            localizer=backend,
        )

    def problem(self, bundle: Bundle) -> StaleError | None:
        """Why it cannot run here with this bundle; None if it can."""
        if self.localizer is not None and (problem := backend_problem(self.localizer, bundle.manifest)) is not None:
            return problem
        for module in self.needs:
            if module == QUANTIZER and not _can_import(module):
                return BenchmarkError(f"{self.name}: this version of torch has no {QUANTIZER}; use an older one")
            if not _can_import(module):
                return MissingPackageError.for_extra(f"{self.name}: needs {module}", "bench")
        if self.compiles and (lacking := _missing_for_compiling()) is not None:
            return BenchmarkError(f"{self.name}: PyTorch needs {lacking}; measure another backend where it is missing")
        if self.device == "cuda" and not _has_gpu():
            return BenchmarkError("--device cuda: torch finds no GPU; leave the option out to measure on the CPU")
        if self.file is not None and self.file not in bundle.manifest.files:
            return BundleError(
                f"{self.name}: the bundle {bundle.path} has no {self.file}; measure another backend, or ask whoever "
                "made the bundle to export it again"
            )
        return None


class Choice(NamedTuple):
    """Which backends are measured."""

    backends: tuple[Backend, ...]
    unavailable: Mapping[str, str]
    """Backends that would have been measured if they could run here, with the reason why they cannot."""


def _torch_backends() -> Iterator[Backend]:
    """The deployed network in PyTorch."""
    engine = "stale_bench.engines.torch_engine:TorchEngine"
    yield Backend(name="torch-fp32", engine=engine, needs=("torch",), file=layout.LOCALIZER_TORCH)
    yield Backend(
        name="torch-int8",
        engine=engine,
        needs=("torch", QUANTIZER),
        file=layout.LOCALIZER_TORCH_INT8,
        precision="int8",
    )


def _published_backends() -> Iterator[Backend]:
    """The network as published, with its text tower in every forward pass."""
    engine, libraries = "stale_bench.engines.published:Published", ("torch", "transformers")
    yield Backend(name="upstream-fp32", engine=engine, needs=libraries, detects=False)
    yield Backend(name="upstream-int8", engine=engine, needs=(*libraries, QUANTIZER), precision="int8", detects=False)


def _peer_backends() -> Iterator[Backend]:
    """The network as published, as a user would run it who takes no part of this project."""
    libraries = ("torch", "transformers", "onnx", "onnxscript")
    yield Backend(
        name="compiled-fp32",
        engine="stale_bench.engines.compiled:PublishedCompiled",
        needs=("torch", "transformers"),
        compiles=True,
        detects=False,
    )
    precisions: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8")
    for family in ("naive-ort", "fixed-ort"):
        for precision in precisions:
            yield Backend(
                name=f"{family}-{precision}",
                engine="stale_bench.engines.naive:NaiveEngine",
                exporter="stale_bench.engines.naive_export:export_published",
                needs=libraries,
                precision=precision,
                detects=False,
            )


def _by_name(*families: Iterable[Backend]) -> dict[str, Backend]:
    return {backend.name: backend for family in families for backend in family}


BACKENDS: Mapping[str, Backend] = _by_name(
    _published_backends(), _peer_backends(), _torch_backends(), map(Backend.of_localizer, LOCALIZER_BACKENDS.values())
)
"""All backends that run on a CPU, slowest first."""
GPU_BACKENDS: Mapping[str, Backend] = _by_name(
    [
        Backend(
            name="upstream-fp32",
            engine="stale_bench.engines.published_gpu:PublishedOnGpu",
            needs=("torch", "transformers"),
            device="cuda",
            detects=False,
        )
    ]
)
"""Backends that run on a GPU."""


def choose_backends(
    names: Sequence[str], bundle: Bundle, *, where_possible: Sequence[str] = (), device: Literal["cpu", "cuda"] = "cpu"
) -> Choice:
    """Look up backends, and find out whether they can run here.

    Args:
        names: backends that must be measured; ``all`` adds every backend that can run here. With no name at all, the
            backends of ``stale_runtime`` that can run here.
        bundle: what they run.
        where_possible: backends that are measured after the others if they can run here.
        device: where they run.

    Returns:
        The backends in the order of their names, each once.

    Raises:
        StaleError: a backend that was asked for by name cannot run here, or none can.
    """
    known = BACKENDS if device == "cpu" else GPU_BACKENDS
    if not names and not where_possible:
        deployed = [name for name in LOCALIZER_BACKENDS if known[name].problem(bundle) is None]
        return choose_backends(deployed or list(LOCALIZER_BACKENDS), bundle)
    chosen: dict[str, Backend] = {}
    unavailable: dict[str, str] = {}

    def choose_if_possible(candidates: Iterable[str]) -> None:
        for name in candidates:
            problem = known[name].problem(bundle)
            if problem is None:
                chosen.setdefault(name, known[name])
            else:
                unavailable[name] = str(problem).removeprefix(f"{name}: ")

    for name in names:
        if name == ALL:
            choose_if_possible(known)
        elif (problem := known[name].problem(bundle)) is not None:
            raise problem
        else:
            chosen[name] = known[name]
    choose_if_possible(where_possible)
    if not chosen:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unavailable.items())
        raise BenchmarkError(f"no backend can run here; {reasons}")
    return Choice(tuple(chosen.values()), unavailable)


def _can_import(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that contains it is missing
        return False


def _missing_for_compiling() -> str | None:
    """What PyTorch would look for in vain when it compiles."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        return f"the C++ compiler {compiler}, which is not installed (CXX names another one)"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return None if header.exists() else f"{header}, which is part of Python's package for development (python3-dev)"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
