"""Latency, memory, size and mAP of every backend at every length, measured on one CPU.

A worker imports this package before it starts its clock, so this file imports nothing of ours, not even
``stale_runtime._lazy``, which does the same for the other packages.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stale_bench.benchmark_backends import BACKENDS, Backend
    from stale_bench.measuring.benchmark import Benchmark
    from stale_bench.measuring.plan import Plan
    from stale_bench.reporting.benchmark_results import Results, Row
    from stale_bench.reporting.benchmark_results import read_benchmark_results as read_results
    from stale_bench.reporting.compare import compare

__all__ = ["BACKENDS", "Backend", "Benchmark", "Plan", "Results", "Row", "compare", "read_results"]

_HOMES = {
    "BACKENDS": "benchmark_backends:BACKENDS",
    "Backend": "benchmark_backends:Backend",
    "Benchmark": "measuring.benchmark:Benchmark",
    "Plan": "measuring.plan:Plan",
    "Results": "reporting.benchmark_results:Results",
    "Row": "reporting.benchmark_results:Row",
    "compare": "reporting.compare:compare",
    "read_results": "reporting.benchmark_results:read_benchmark_results",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, definition = _HOMES[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), definition)


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | _HOMES.keys())
