"""What ``stale-merge`` is asked to do: its options, checked once."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from stale_runtime.batch.journal import JOURNAL_SUFFIX
from stale_runtime.errors import DatasetError, MissingPackageError
from stale_runtime.formats.merged_formats import MERGED_FORMATS, MergedFormat
from stale_runtime.system.files import reason
from stale_runtime.terminal.output import check_not_an_input, check_output

_SUFFIXES = (".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class MergeRequest:
    """The files and options of a merge. Constructing it raises ``click.UsageError`` if they make no sense together."""

    inputs: tuple[Path, ...]
    """Files, and folders of them."""
    output: Path | None
    """The file that is written; None is refused."""
    output_format: str | None
    """A name of ``MERGED_FORMATS``; None for the one that ``output`` ends with."""
    videos: Path | None
    """List of all videos that must be there; None if the shards know it."""
    incomplete: bool
    """Whether videos may be missing."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise click.UsageError("no INPUT; give the files of all shards, or their folder")
        if self.output is None:
            raise click.UsageError("no -o; give the file for all shards together")
        if self.output_format is None and self._suffix not in MERGED_FORMATS:
            raise click.UsageError(f"-o {self.output}: its name ends with no format; give --format, or one of {_ENDS}")
        form = self.form.form
        if form.missing:
            raise MissingPackageError.for_extra(f"--format {form.name} needs {form.module}", str(form.extra))
        check_output(self.output)
        check_not_an_input(self.output, {"--videos": self.videos, **{str(path): path for path in self.inputs}}, "-o")

    @property
    def form(self) -> MergedFormat:
        """The format that is written."""
        return MERGED_FORMATS[self.output_format or self._suffix]

    @property
    def _suffix(self) -> str:
        return "" if self.output is None else self.output.suffix.removeprefix(".").lower()

    def files(self) -> list[Path]:
        """The files that are merged, those of each folder in order of name.

        Raises:
            DatasetError: a folder cannot be read, or has none.
        """
        return [file for path in self.inputs for file in (_files_in(path) if os.path.isdir(path) else [path])]


_ENDS = ", ".join(merged.form.suffix for merged in MERGED_FORMATS.values())


def _files_in(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as problem:
        raise DatasetError(f"{folder}: {reason(problem)}") from problem
    shown = [name for name in names if not name.startswith(".") and not name.endswith(JOURNAL_SUFFIX)]
    found = [name for name in shown if name.endswith(_SUFFIXES)]
    if not found:
        raise DatasetError(f"{folder}: no .jsonl or .parquet files; give the folder that the shards were written to")
    for name in found:
        yield folder / name
