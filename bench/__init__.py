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
    from stale_bench.reporting.benchmark_results import Results, Row, read_results
    from stale_bench.reporting.compare import compare

__all__ = ["BACKENDS", "Backend", "Benchmark", "Plan", "Results", "Row", "compare", "read_results"]

_MODULES = {
    "BACKENDS": "benchmark_backends",
    "Backend": "benchmark_backends",
    "Benchmark": "measuring.benchmark",
    "Plan": "measuring.plan",
    "Results": "reporting.benchmark_results",
    "Row": "reporting.benchmark_results",
    "compare": "reporting.compare",
    "read_results": "reporting.benchmark_results",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | _MODULES.keys())
