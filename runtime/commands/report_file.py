"""The file of ``--report``, which is written however a run ends."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from stale_runtime.batch.batch import Batch
from stale_runtime.batch.run_report import run_report_json
from stale_runtime.commands.run_preparation import NAME
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inputs.remote_files import Source
from stale_runtime.terminal import console
from stale_runtime.terminal.endings import explain_ending
from stale_runtime.terminal.output import write_output


@dataclass(kw_only=True)
class RunReport:
    """What is known of a run so far."""

    file: Path | None
    """None for no report."""
    paths: Sequence[Source] = ()
    """Of the videos; empty until they are found."""
    may_replace: bool = False
    """Whether a file that is there is known to be none of the inputs."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the run; empty until the bundle is open."""
    resumed: int = 0
    """Videos that an interrupted run had finished."""
    outcomes: list[Outcome] = field(default_factory=list)
    warnings: Mapping[Source, str] = field(default_factory=dict)
    is_written: bool = False

    def write(self, batch: Batch, ended: tuple[int, str] | None = None) -> None:
        """Write the report, if one is wanted.

        Args:
            batch: the run's videos.
            ended: as for ``run_report_json``.

        Raises:
            click.UsageError: it cannot be written.
        """
        self.is_written = True
        if self.file is not None:
            text = run_report_json(batch, resumed=self.resumed, run=self.settings, ended=ended)
            write_output(text, self.file, "--report")

    def write_early(self, problem: BaseException) -> None:
        """Write what is known when an error ends the run. If that fails, it is only noted: the first error matters."""
        if self.file is not None and os.path.lexists(self.file) and not self.may_replace:
            if not isinstance(problem, click.UsageError):  # that may be about this very file
                console.note(NAME, f"warning: --report {self.file} is left as it was, and is not of this run")
            return
        ending = explain_ending(problem)
        batch = Batch(paths=tuple(self.paths), outcomes=tuple(self.outcomes), warnings=self.warnings)
        try:
            self.write(batch, (ending.exit_code, ending.message))
        except click.UsageError as other:
            console.note(NAME, f"warning: {other.message}")


@contextmanager
def reported(file: Path | None) -> Iterator[RunReport]:
    """A report that is also written if the block ends with an error, Ctrl-C or SIGTERM.

    Args:
        file: where it is written; None for no report.
    """
    report = RunReport(file=file)
    try:
        yield report
    except (Exception, KeyboardInterrupt) as problem:
        if not report.is_written:
            report.write_early(problem)
        raise
