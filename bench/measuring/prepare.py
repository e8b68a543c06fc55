"""Everything that can be wrong with a benchmark, found out before it measures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from stale_bench.benchmark_backends import BACKENDS, Backend, choose_named
from stale_bench.benchmark_inputs import feature_files, read_classes, read_evaluation, write_encoded
from stale_bench.measuring.benchmark import FP32, Plan
from stale_bench.measuring.machine import choose_cpus
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle, find_bundle
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.inference.localizer import Localizer, Settings
from stale_runtime.inference.text_encoder import Tokenizer
from stale_runtime.inputs.prompts import Prompts

ROW_S = 30.0
"""Seconds that a backend and length get unless told otherwise."""

Choice: TypeAlias = tuple[tuple[Backend, ...], dict[str, str]]
"""Backends, and why others were left out."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks to be measured."""

    backends: tuple[str, ...]
    """Keys of ``BACKENDS``, or ``all``; none for those of ``stale_runtime`` that the bundle has."""
    lengths: tuple[int, ...]
    """T in snippets; none for the trained one."""
    bundle: Path | None = None
    """None for the places where a bundle usually is."""
    threads: int = 1
    features: Path | None = None
    """Folder of feature files; None for random features."""
    ground_truth: Path | None = None
    """Annotations for mAP; None for no mAP."""
    subset: str | None = None
    prompts: Path | None = None
    """File of class names; None for those that the bundle carries."""
    budget_s: float | None = None
    seed: int = 0


def prepare(
    request: Request, cache: Path, *, choose: Callable[[Bundle], Choice] | None = None
) -> tuple[Plan, dict[str, str]]:
    """Check a request, and read what it names.

    Args:
        request: what to measure.
        cache: an empty folder for encoded prompts.
        choose: chooses the backends; None to take those of the request.

    Returns:
        The plan, and why backends were left out.

    Raises:
        StaleError: something cannot be used, or measured here.
    """
    cpus = choose_cpus(request.threads)
    bundle = Bundle(find_bundle(request.bundle))
    backends, left_out = choose(bundle) if choose is not None else _chosen(request.backends, bundle)
    classes = read_classes(bundle, request.prompts)
    files: Sequence[Path] = ()
    evaluation = None
    if request.features is not None:
        files = feature_files(request.features, bundle.manifest.channels)
        if request.ground_truth is not None:
            evaluation = read_evaluation(request.ground_truth, request.subset, files)
    _try_out(backends, bundle, classes, cache)
    lengths = request.lengths or (bundle.manifest.temporal_scale,)
    plan = Plan(
        backends=backends,
        lengths=lengths,
        bundle=bundle,
        classes=classes.names,
        cache=cache,
        threads=request.threads,
        cpus=cpus,
        files=tuple(files),
        evaluation=evaluation,
        budget_s=request.budget_s or ROW_S * len(backends) * len(lengths),
        seed=request.seed,
    )
    return plan, left_out


def _chosen(names: Sequence[str], bundle: Bundle) -> Choice:
    if names:
        return choose_named(names, bundle)
    here = [name for name in LOCALIZER_BACKENDS if BACKENDS[name].problem(bundle) is None]
    return choose_named(here or list(LOCALIZER_BACKENDS), bundle)


def _try_out(backends: Sequence[Backend], bundle: Bundle, classes: Prompts, cache: Path) -> None:
    """Read what will be loaded, and encode the prompts once, so that every worker finds them in the cache.

    Raises:
        StaleError: a file or a prompt cannot be used.
    """
    needed = {backend.name for backend in backends if backend.name in LOCALIZER_BACKENDS} or {FP32}
    for name in needed:
        localizer = Localizer(bundle, Settings(backend=name, cache_folder=cache))
    write_encoded(cache, localizer.encode_prompts(classes))
    for backend in backends:
        if backend.file is not None:
            bundle.read(backend.file)
    spec = bundle.manifest.text_encoder
    Tokenizer(bundle.read(layout.TOKENIZER), spec).rows(spec.fill(classes.names), classes.places)
