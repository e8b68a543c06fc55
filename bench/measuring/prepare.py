"""Check everything that can be wrong with a benchmark before it starts to measure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from stale_bench.benchmark_backends import Backend, choose_backends
from stale_bench.benchmark_inputs import (
    Evaluation,
    MeasuredVideos,
    read_classes,
    read_evaluation,
    read_videos,
    write_encoded,
)
from stale_bench.footage import Footage, joined_footage, keep_annotated, random_footage
from stale_bench.measuring.machine import choose_cpus
from stale_bench.measuring.plan import BenchmarkRequest, Plan
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle, find_bundle
from stale_runtime.errors import BenchmarkError
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inference.settings import Settings
from stale_runtime.inference.text_encoder import Tokenizer
from stale_runtime.inputs.prompts import Prompts


def prepare(request: BenchmarkRequest, cache: Path) -> Plan:
    """Check a request, and read the files that it names.

    Args:
        request: what to measure.
        cache: an empty folder for encoded prompts, and for the videos of ``request.snippets``.

    Raises:
        StaleError: something cannot be used, or cannot be measured here.
    """
    cpus = choose_cpus(request.threads)
    bundle = Bundle(find_bundle(request.bundle))
    backends, unavailable = choose_backends(
        request.backends, bundle, where_possible=request.where_possible, device=request.device
    )
    classes = read_classes(bundle, request.prompts)
    videos = evaluation = None
    if request.features is not None:
        videos = read_videos(request.features, bundle.manifest.channels)
        if request.ground_truth is not None:
            evaluation = read_evaluation(request.ground_truth, request.subset, videos, request.video_info)
            if request.snippets:
                videos, evaluation = keep_annotated(videos, evaluation)
    _load_once(backends, bundle, classes, cache)
    plan = Plan(
        request=request,
        backends=backends,
        unavailable=unavailable,
        bundle=bundle,
        classes=classes,
        cache=cache,
        cpus=cpus,
        videos=videos,
        evaluation=evaluation,
        footage=_make_footage(request, bundle.manifest.channels, videos, evaluation, cache),
    )
    for snippets, keys in zip(request.snippets, plan.groups, strict=False):
        if not keys:
            raise BenchmarkError(
                f"--snippets {snippets}: the original takes a whole video of {layout.SHORTEST} to {layout.LONGEST:,} "
                "snippets; add a --backend of stale-run, or measure shorter videos"
            )
    return plan


def _make_footage(
    request: BenchmarkRequest,
    channels: int,
    videos: MeasuredVideos | None,
    evaluation: Evaluation | None,
    folder: Path,
) -> Mapping[int, Footage]:
    """Write videos for each number of snippets."""
    footage: dict[int, Footage] = {}
    for snippets in request.snippets:
        place = folder / f"{snippets} snippets"
        if videos is None:
            footage[snippets] = random_footage(snippets, channels, seed=request.seed, folder=place)
        else:
            footage[snippets] = joined_footage(videos, evaluation, snippets, channels, seed=request.seed, folder=place)
    return footage


def _load_once(backends: Sequence[Backend], bundle: Bundle, classes: Prompts, cache: Path) -> None:
    """Load what the workers will load, and encode the prompts so that every worker finds them in the cache.

    A network with random weights encodes prompts itself, and needs nothing of the bundle but its tokenizer.

    Raises:
        StaleError: a file or a prompt cannot be used.
    """
    deployed = [backend.name for backend in backends if backend.localizer is not None]
    if any(backend.detects for backend in backends):
        for name in deployed or [None]:
            localizer = Localizer(bundle, Settings(backend=name, cache_folder=cache))
        write_encoded(cache, localizer.encode_prompts(classes))
    for backend in backends:
        if backend.file is not None:
            bundle.read(backend.file)
    spec = bundle.manifest.text_encoder
    Tokenizer(bundle.read(layout.TOKENIZER), spec).rows(spec.fill(classes.names), classes.places)
