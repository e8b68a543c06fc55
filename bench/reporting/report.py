"""Which report of a benchmark is wanted, and in which files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stale_bench.reporting import plots
from stale_bench.reporting.bench_page import bench_page
from stale_bench.reporting.benchmark_results import Results
from stale_bench.reporting.footage_tables import footage_report
from stale_bench.reporting.report_tables import ReportText, draw_report
from stale_bench.reporting.tables import results_csv, results_report
from stale_bench.reporting.thesis_tables import gpu_report, thesis_report
from stale_runtime.terminal.output import check_output

STYLES = {"table": "simple", "markdown": "github"}
"""Formats of ``tabulate``, by their names in ``--format``."""
PAGES = (".html", ".htm")
"""How the name of a page ends."""

Form = Literal["table", "json", "csv", "markdown", "html"]
MakeReport = Callable[[Results], ReportText]


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """How to print results, and which files to write."""

    form: Form = "table"
    outputs: tuple[Path, ...] = ()
    """Files for all results: pages if their names end in ``.html``, else JSON."""
    plot: Path | None = None
    """Image file for curves over length."""

    def __post_init__(self) -> None:
        if self.plot is not None and self.plot.suffix.lower() not in plots.SUFFIXES:
            raise ValueError(f"--plot {self.plot}: expected a name that ends in {' or '.join(plots.SUFFIXES)}")
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"-o {self.outputs[-1]}: given twice; give each file once")

    @property
    def prints(self) -> bool:
        """Whether a report is printed: not if it is a page that is written to a file."""
        return self.form != "html" or not any(map(is_page, self.outputs))

    def check(self) -> None:
        """Find out before measuring whether the results can be written.

        Raises:
            click.UsageError: a file cannot be written.
            BenchmarkError: curves cannot be drawn.
        """
        for output in self.outputs:
            check_output(output)
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


def is_page(output: Path) -> bool:
    """Whether a file is written as a page."""
    return output.suffix.lower() in PAGES


def make_report(results: Results) -> ReportText:
    """The tables and notes of a benchmark: over the length of videos, or over T."""
    has_footage = any(row.video is not None for row in results.rows)
    return footage_report(results) if has_footage else results_report(results)


def make_thesis_report(results: Results) -> ReportText:
    """The tables and notes of a repetition of the thesis: on a GPU, or on a CPU."""
    return gpu_report(results) if any(row.gpu is not None for row in results.rows) else thesis_report(results)


def render_report(results: Results, form: Form, make: MakeReport = make_report) -> str:
    """Results as text in one of the formats.

    Args:
        results: what was measured.
        form: one of the formats of ``--format``.
        make: which tables and notes are wanted.
    """
    if form == "json":
        return results.to_json()
    if form == "csv":
        return results_csv(results)
    report = make(results)
    return bench_page(results, report) if form == "html" else draw_report(report, STYLES[form])
