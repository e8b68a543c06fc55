"""Latency, memory, size and mAP of every backend at every length, measured on one CPU.

A worker imports this package before it starts its clock, so nothing is imported here until it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stale_bench.backends import BACKENDS, Backend
    from stale_bench.benchmark import Benchmark, Plan
    from stale_bench.compare import compare
    from stale_bench.results import Results, Row, read_results

__all__ = ["BACKENDS", "Backend", "Benchmark", "Plan", "Results", "Row", "compare", "read_results"]

_HOMES = {
    "BACKENDS": "backends",
    "Backend": "backends",
    "Benchmark": "benchmark",
    "Plan": "benchmark",
    "Results": "results",
    "Row": "results",
    "compare": "compare",
    "read_results": "results",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
