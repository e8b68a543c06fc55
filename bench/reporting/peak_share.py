"""How near a backend comes to the most multiplications that the machine was seen to do."""

from collections.abc import Mapping

from stale_bench.benchmark_backends import BACKENDS
from stale_bench.reporting.benchmark_results import PEAK, Results, Row


def read_peaks(results: Results) -> Mapping[str, float]:
    """Billions of multiplications a second by kind of product, as ``peak_worker.KINDS``; empty if not measured."""
    peaks = results.machine.get(PEAK)
    if not isinstance(peaks, dict):
        return {}
    return {name: value for name, value in peaks.items() if isinstance(value, float) and 0 < value < 1e9}


def peak_share(row: Row, peaks: Mapping[str, float]) -> float | None:
    """The time that the row's multiplications would take at the peak, divided by the time of the forward pass.

    Its multiplications in integers count at the peak of int8, all others at that of float, both with constant weights.

    Returns:
        None for a row without times or multiplications, or in a precision whose peak was not measured.
    """
    backend, forward = BACKENDS.get(row.backend), row.stages.get("forward")
    is_known = backend is not None and backend.precision != "bf16" and peaks.keys() >= {"fp32", "int8"}
    if not is_known or forward is None or row.gmacs is None or row.int8_share is None:
        return None
    at_peak_s = row.gmacs * (row.int8_share / peaks["int8"] + (1 - row.int8_share) / peaks["fp32"])
    return at_peak_s / (forward.median_ms / 1e3)


def peak_notes(results: Results) -> list[str]:
    """A sentence on what ``peak_share`` is relative to, or none."""
    peaks = read_peaks(results)
    if not any(peak_share(row, peaks) is not None for row in results.rows):
        return []
    listed = ", ".join(f"{value:.0f} in {name}" for name, value in peaks.items())
    return [
        "Of peak: the time that a row's multiplications would take at the peak, divided by its forward time. Peak, the "
        f"fastest of many products in ONNX Runtime, in GMACs a second: {listed}."
    ]
