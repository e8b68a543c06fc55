"""The results of a benchmark and the conditions under which they were measured."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stale_bench.benchmark_inputs import RANDOM_SNIPPETS
from stale_bench.measuring.benchmark import TURN_MS, Benchmark
from stale_bench.measuring.machine import describe_machine, describe_versions
from stale_bench.measuring.plan import Plan
from stale_bench.measuring.records import Record
from stale_bench.reporting.benchmark_results import FORMAT_VERSION, PEAK, Results
from stale_bench.reporting.rows import make_row
from stale_bench.statistics.intervals import CONFIDENCE
from stale_runtime.evaluation.map_change import COVERAGE, RESAMPLES

STAGE_MEANINGS = {
    "import": "importing what the backend needs, in a fresh interpreter",
    "load": "opening the bundle and making the network ready; files are in the system's cache",
    "prompts_cold": "opening the text tower and encoding all prompts",
    "prompts_warm": "looking all prompts up in bundle or cache",
    "resample": "resampling features to the T snippets that the network takes, if the graph does not do so itself",
    "forward": "the network, on resampled features",
    "decode": "turning outputs into segments",
    "end_to_end": "from features to detections: resample, forward and decode in one call",
    "video": "from a feature file to detections, as stale-run does it with prompts that are encoded",
}
RANDOM = f"random, {RANDOM_SNIPPETS:g} snippets for each of T"
RANDOM_FOOTAGE = "random"


def summarise(benchmark: Benchmark, *, complete: bool) -> Results:
    """Sum up what has been measured so far.

    Args:
        benchmark: finished or interrupted.
        complete: whether it is finished.
    """
    plan, records = benchmark.plan, benchmark.records
    baselines = {record.case: record for record in records if record.backend.name == plan.baseline}
    threads, classes = plan.request.threads, len(plan.classes.names)
    return Results(
        format_version=FORMAT_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        complete=complete,
        machine={**describe_machine(plan.cpus), PEAK: benchmark.peak_gmacs_per_s},
        versions=describe_versions(_libraries(records)),
        bundle_sha256=plan.bundle.manifest_sha256,
        protocol=_protocol(plan),
        unavailable=dict(plan.unavailable),
        rows=tuple(
            make_row(record, baselines.get(record.case.of_baseline), threads=threads, classes=classes)
            for record in records
        ),
    )


def _protocol(plan: Plan) -> dict[str, Any]:
    request, videos, evaluation = plan.request, plan.videos, plan.evaluation
    return {
        "threads": request.threads,
        "cpus": list(plan.cpus),
        "classes_sha256": _digest(plan.classes.names),
        "inputs": _describe_inputs(plan),
        "inputs_sha256": _digest_files(videos.files.values()) if videos else None,
        "inputs_left_out": dict(videos.left_out) if videos else None,
        "seed": request.seed,
        "decoder": plan.bundle.manifest.decoder,
        "evaluated_videos": len(evaluation.truth.videos) if evaluation else None,
        "evaluated_videos_with_features": len(evaluation.durations_s) if evaluation else None,
        "map_draws": _describe_draws(plan),
        "budget_s": plan.budget_s,
        "launches": request.launches,
        "rounds": list(request.rounds),
        "turn_ms": TURN_MS,
        "baseline": plan.baseline,
        "ratio": f"of {'video' if plan.footage else 'forward'} times, paired by round",
        "confidence": CONFIDENCE,
        "stages": STAGE_MEANINGS,
        "footage": {str(N): list(footage.videos.snippets.values()) for N, footage in plan.footage.items()},
    }


def _describe_draws(plan: Plan) -> dict[str, Any] | None:
    """What tells whether two runs have computed mAP over the same resamples of the same videos."""
    if plan.evaluation is None:
        return None
    evaluations = (plan.evaluation, *(footage.evaluation for footage in plan.footage.values()))
    truths = (repr(evaluation.truth) for evaluation in evaluations if evaluation is not None)
    return {"resamples": RESAMPLES, "coverage": COVERAGE, "truth_sha256": _digest(truths)}


def _describe_inputs(plan: Plan) -> str:
    if plan.videos is None:
        return RANDOM_FOOTAGE if plan.footage else RANDOM
    return f"{len(plan.videos.files)} feature files" + (", joined in random order" if plan.footage else "")


def _libraries(records: Sequence[Record]) -> list[str]:
    return sorted({module.partition(".")[0] for record in records for module in record.backend.needs})


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _digest_files(files: Iterable[Path]) -> str:
    return _digest(f"{path.name} {path.stat().st_size}" for path in files)
