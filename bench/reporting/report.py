"""Which report of a benchmark is wanted, and in which files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stale_bench.reporting import plots
from stale_bench.reporting.benchmark_results import Results
from stale_bench.reporting.footage_tables import footage_table
from stale_bench.reporting.tables import results_csv, results_table
from stale_runtime.terminal.output import check_output

STYLES = {"table": "simple", "markdown": "github"}
"""Formats of ``tabulate``, by their names in ``--format``."""

Form = Literal["table", "json", "csv", "markdown"]


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """How to print results, and which files to write."""

    form: Form = "table"
    output: Path | None = None
    """JSON file for all results."""
    plot: Path | None = None
    """Image file for curves over length."""

    def __post_init__(self) -> None:
        if self.plot is not None and self.plot.suffix.lower() not in plots.SUFFIXES:
            raise ValueError(f"--plot {self.plot}: expected a name that ends in {' or '.join(plots.SUFFIXES)}")

    def check(self) -> None:
        """Find out before measuring whether the results can be written.

        Raises:
            click.UsageError: a file cannot be written.
            BenchmarkError: curves cannot be drawn.
        """
        check_output(self.output)
        if self.plot is not None:
            check_output(self.plot, "--plot")
            plots.check_can_plot()


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """Which two results to compare, and how to print them."""

    old: Path
    new: Path
    despite: tuple[str, ...] = ()
    """Conditions that may differ."""
    form: Form = "table"

    def __post_init__(self) -> None:
        if self.form not in STYLES:
            raise ValueError("--compare prints --format table or markdown")


def render(results: Results, form: Form) -> str:
    """Results as text in one of the formats."""
    if form == "json":
        return results.to_json()
    if form == "csv":
        return results_csv(results)
    has_footage = any(row.video is not None for row in results.rows)
    return (footage_table if has_footage else results_table)(results, STYLES[form])
