"""Plans, jobs and results to start from."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stale_bench.benchmark_backends import Backend
from stale_bench.benchmark_inputs import Evaluation, MeasuredVideos
from stale_bench.footage import Footage
from stale_bench.measuring.benchmark import Benchmark
from stale_bench.measuring.plan import BenchmarkRequest, Plan
from stale_bench.protocol import BackendJob
from stale_bench.reporting.benchmark_results import FORMAT_VERSION, Ratio, Results, Row, VideoFacts
from stale_bench.reporting.rows import make_stage
from stale_runtime import Prompts
from stale_runtime.bundle.bundle import Bundle
from tests.tiny import CLASSES

QUIET = Row(
    backend="ort-fp32", length=100, video=None, batch=1, threads=1, classes=3, stages={}, repeats=1, warmup_ms=(),
    ratio=None, peak_rss_mb=None, rss_rise_mb=None, file_mb=None, gmacs=None, int8_share=None, gpu=None, map=None,
    map_change=None, length_change=None, recomputed=None, map_resamples=None, error=None, warnings=(),
)  # fmt: skip


def make_plan(
    bundle: Path,
    *backends: Backend,
    cache: Path | None = None,
    videos: MeasuredVideos | None = None,
    evaluation: Evaluation | None = None,
    footage: Mapping[int, Footage] | None = None,
    **options: Any,
) -> Plan:
    """A short plan for one length; options are those of the request."""
    request = BenchmarkRequest(
        **{"launches": 1, "rounds": (2, 2), "lengths": (16,), "row_budget_s": None, "peak": False, **options},
    )
    return Plan(
        request=request, backends=backends, bundle=Bundle(bundle), classes=Prompts.of(CLASSES),
        cache=cache or bundle / "no-cache", videos=videos, evaluation=evaluation,
        footage=footage or {},
    )  # fmt: skip


def run(plan: Plan) -> Benchmark:
    """A finished benchmark."""
    benchmark = Benchmark(plan=plan, say=lambda _text, _left_s: None)
    benchmark.run()
    return benchmark


def make_job(bundle: Path, cache: Path, **changes: Any) -> BackendJob:
    """A job for the bundle's fp32 graph."""
    job = BackendJob(
        backend="ort-fp32", engine="stale_bench.engines.localizer_engine:LocalizerEngine", bundle=str(bundle),
        file="localizer.fp32.onnx", precision="fp32", length=16, mode=None, classes=CLASSES, threads=1, cpus=(), seed=0,
        features=None, cache=str(cache),
    )  # fmt: skip
    return replace(job, **changes)


def make_row(forward_ms: tuple[tuple[float, ...], ...] = ((4.0, 5.0), (6.0,)), **changes: Any) -> Row:
    """A row whose forward times are as given, by launch; with none, a row that failed."""
    stages = {"forward": make_stage(forward_ms)} if forward_ms else {}
    return replace(QUIET, **{"stages": stages, **changes})


def make_video_row(
    snippets: int, mode: str, video_ms: tuple[tuple[float, ...], ...] = ((50.0,), (60.0,)), **changes: Any
) -> Row:
    """A row with the times of a video, by launch."""
    defaults = {"snippets": snippets, "mode": mode, "per_launch": (snippets,) * len(video_ms), "map_alone": None}
    defaults["alone_change"] = None
    facts = {name: changes.pop(name, default) for name, default in defaults.items()}
    video = VideoFacts(**facts)
    stages = {"video": make_stage(video_ms)} if any(video_ms) else {}
    return replace(QUIET, **{"stages": stages, "video": video, **changes})


def make_results(*rows: Row, **changes: Any) -> Results:
    """Results of a machine that does not exist."""
    protocol = {
        "threads": 1, "cpus": [1], "inputs": "random", "baseline": "ort-fp32", "confidence": 0.99,
        "evaluated_videos": None, "evaluated_videos_with_features": None, "launches": 2, "budget_s": 60.0,
        "footage": {},
    }  # fmt: skip
    machine = {"cpu": "Abacus 3000", "flags": ["beads"], "affinity": [0, 1]}
    results = Results(
        format_version=FORMAT_VERSION, created="2030-01-01T00:00:00+00:00", complete=True, machine=machine,
        versions={"python": "3.11"}, bundle_sha256="00ff", protocol=protocol, unavailable={}, rows=rows,
    )  # fmt: skip
    return replace(results, **changes)


def ratio(median: float, low: float | None, high: float | None, baseline: str = "ort-fp32") -> Ratio:
    """A ratio."""
    return Ratio(baseline=baseline, median=median, low=low, high=high)
