"""The backends by name, and whether they can run here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BenchmarkError, BundleError, StaleError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, backend_problem

QUANTIZER = "torch.ao.quantization.quantize"


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to run the network."""

    name: str
    engine: str
    """``module:Class`` of the ``stale_bench.engines.engine.Engine`` that a worker makes of it."""
    needs: tuple[str, ...] = ()
    """Modules that are not part of the runtime install."""
    file: str | None = None
    """The file of the bundle that it runs; None if it brings its own weights."""
    detects: bool = True
    """Whether it has trained weights, and so an mAP."""

    def problem(self, bundle: Bundle) -> StaleError | None:
        """Why it cannot run here with this bundle; None if it can."""
        deployed = LOCALIZER_BACKENDS.get(self.name)
        if deployed is not None and (problem := backend_problem(deployed, bundle.manifest)) is not None:
            return problem
        for module in self.needs:
            if module == QUANTIZER and not _is_there(module):
                return BenchmarkError(f"{self.name}: this version of torch has no {QUANTIZER}; use an older one")
            if not _is_there(module):
                return BenchmarkError(f"{self.name}: needs {module}; install it with: pip install 'stale-edge[bench]'")
        if self.file is not None and self.file not in bundle.manifest.files:
            return BundleError(f"{self.name}: the bundle {bundle.path} has no {self.file}; export it again")
        return None


def _deployed() -> Iterable[Backend]:
    """What ``stale_runtime`` runs."""
    engine = "stale_bench.engines.localizer_engine:LocalizerEngine"
    for backend in LOCALIZER_BACKENDS.values():
        yield Backend(name=backend.name, engine=engine, needs=(backend.engine,), file=backend.file)


def _of_torch() -> Iterable[Backend]:
    """The deployed network in PyTorch."""
    engine = "stale_bench.engines.torch_engine:TorchEngine"
    yield Backend(name="torch-fp32", engine=engine, needs=("torch",), file=layout.LOCALIZER_TORCH)
    yield Backend(name="torch-int8", engine=engine, needs=("torch", QUANTIZER), file=layout.LOCALIZER_TORCH_INT8)


def _published() -> Iterable[Backend]:
    """The network as published, with its text tower in every forward pass."""
    libraries = ("torch", "transformers")
    yield Backend(
        name="upstream-fp32", engine="stale_bench.engines.published:Published", needs=libraries, detects=False
    )
    yield Backend(
        name="upstream-int8",
        engine="stale_bench.engines.published:PublishedInt8",
        needs=(*libraries, QUANTIZER),
        detects=False,
    )


BACKENDS: Mapping[str, Backend] = {
    backend.name: backend for family in (_published(), _of_torch(), _deployed()) for backend in family
}
"""Slowest first. A backend of ``stale_runtime`` comes before one of the same name here."""


def choose_named(names: Sequence[str], bundle: Bundle) -> tuple[tuple[Backend, ...], dict[str, str]]:
    """The backends that were asked for.

    Args:
        names: keys of ``BACKENDS``; ``all`` for those that can run here.
        bundle: what they shall run.

    Returns:
        The backends in the order asked for, and of those that ``all`` leaves out the reason by name.

    Raises:
        StaleError: one that was asked for by name cannot run here, or none can.
    """
    chosen: dict[str, Backend] = {}
    left_out: dict[str, str] = {}
    for name in names:
        if name != "all":
            problem = BACKENDS[name].problem(bundle)
            if problem is not None:
                raise problem
            chosen[name] = BACKENDS[name]
            continue
        for candidate in BACKENDS.values():
            problem = candidate.problem(bundle)
            if problem is None:
                chosen.setdefault(candidate.name, candidate)
            else:
                left_out[candidate.name] = str(problem).removeprefix(f"{candidate.name}: ")
    if not chosen:
        raise BenchmarkError("no backend can run here; " + "; ".join(f"{k}: {v}" for k, v in left_out.items()))
    return tuple(chosen.values()), left_out


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that it is in
        return False
