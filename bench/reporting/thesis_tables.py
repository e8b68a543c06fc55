"""The tables of the thesis that this toolkit grew out of, measured again, together with this toolkit's backends.

Source: Wang, bachelor's thesis, TU Delft 2023: forward seconds of the dynamically quantized original on one CPU, and
    time, memory and utilisation of the original on a GPU, over lengths from 100 to 3000. Its
    ``STALE_cpu/stale_quantized_inference.py`` prints the mean over seeds and ``np.std``, which divides by their number;
    here the standard deviation divides by one less, and is therefore larger.
"""

import numpy as np

from stale_bench.reporting.benchmark_results import Results, Row
from stale_bench.reporting.report_tables import ReportTable, ReportText
from stale_bench.reporting.tables import describe_setup, failure_notes, speedup, warning_notes
from stale_bench.statistics.intervals import FEWEST_LAUNCHES


def thesis_report(results: Results) -> ReportText:
    """Forward seconds, speedups, multiplications and memory of the original and of our backends, by length.

    Args:
        results: what was measured on a CPU, the original first.
    """
    backends = list(dict.fromkeys(row.backend for row in results.rows))
    original, *ours = backends
    times, costs = [], []
    for length in dict.fromkeys(row.length for row in results.rows):
        rows = {name: results.row(name, length) for name in backends}
        faster = [_speedup(rows[name], original) for name in ours]
        times.append((str(length), *map(_seconds, rows.values()), *faster))
        gmacs = [_number(None if row is None else row.gmacs, ".1f") for row in rows.values()]
        memory = [_number(None if row is None else row.peak_rss_mb, ".0f") for row in rows.values()]
        costs.append((str(length), *gmacs, *memory))
    time_headers = ("T", *(f"{name} s" for name in backends), *(f"{name} faster" for name in ours))
    cost_headers = ("T", *(f"{name} GMACs" for name in backends), *(f"{name} MB" for name in backends))
    notes = [
        describe_setup(results),
        f"Forward seconds: mean ± standard deviation over {results.protocol['launches']} seeds, one process each.",
        f"Faster: the forward time of {original} divided by the backend's, paired by seed and round, with its "
        f"{results.protocol['confidence']:.0%} interval (at least {FEWEST_LAUNCHES} seeds).",
        "GMACs: billions of multiplications in a forward pass. MB: peak memory of a process.",
    ]
    if not results.complete:
        notes.append("Interrupted: this is what was measured before that.")
    return ReportText(
        tables=(
            ReportTable(caption="Forward seconds", headers=time_headers, lines=tuple(times), left=0),
            ReportTable(caption="Multiplications and memory", headers=cost_headers, lines=tuple(costs), left=0),
        ),
        notes=(*notes, *failure_notes(results), *warning_notes(results)),
    )


def gpu_report(results: Results) -> ReportText:
    """Forward seconds, memory and utilisation of the original on a GPU."""
    headers = ("T", "forward s", "GPU memory MB", "utilisation", "GMACs")
    lines = [
        (
            str(row.length),
            _seconds(row),
            _number(_of_gpu(row, "memory_mb"), ".0f"),
            _number(_of_gpu(row, "utilisation"), ".0%"),
            _number(row.gmacs, ".1f"),
        )
        for row in results.rows
    ]
    table = ReportTable(caption="The original on a GPU", headers=headers, lines=tuple(lines), left=0)
    return ReportText(tables=(table,), notes=tuple(failure_notes(results)))


def launch_means(row: Row) -> list[float]:
    """Mean forward seconds of each process."""
    stage = row.stages["forward"]
    parts = np.split(np.array(stage.samples_ms), np.cumsum(stage.per_launch)[:-1])
    return [float(part.mean()) / 1e3 for part in parts if len(part)]


def _seconds(row: Row | None) -> str:
    if row is None or "forward" not in row.stages:
        return "" if row is None or row.error is None else "FAILED"
    means = launch_means(row)
    digits = 4 if np.mean(means) < 1 else 3
    deviation = f" ± {np.std(means, ddof=1):.{digits}f}" if len(means) > 1 else ""
    return f"{np.mean(means):.{digits}f}{deviation}"


def _speedup(ours: Row | None, original: str) -> str:
    if ours is None or ours.ratio is None or ours.ratio.baseline != original:
        return ""
    return speedup(ours.ratio)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _of_gpu(row: Row, key: str) -> float | None:
    return None if row.gpu is None else row.gpu.get(key)
