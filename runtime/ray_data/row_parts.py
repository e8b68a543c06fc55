"""The results of a run with Ray: Parquet files in one folder, each written whole.

What is in the folder is what is done: a run that was killed continues with the videos that have no row there. The name
of a part depends on its videos alone, so a part that Ray writes a second time, because a process died while it wrote,
takes the place of the first.
"""

import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stale_runtime.errors import DatasetError, OutputError
from stale_runtime.formats.parquet_table import parquet_schema
from stale_runtime.formats.result_rows import FAILED, check_video_id
from stale_runtime.inputs.videos import MOST_VIDEOS, check_count
from stale_runtime.system.files import reason, why_unwritten
from stale_runtime.system.workspace import sync_folder, write_durably

if TYPE_CHECKING:
    import pyarrow

WARNING: Final = "warning"
"""Column of what is likely to be wrong with a video's features; it goes to the driver, not into the parts."""
_UNFINISHED: Final = ".unfinished-"
"""What the names of parts begin with while they are written."""
UNWRITTEN: Final = "unwritten"
"""Column of why a part could not be written; None if it was."""
REPORTED: Final = ("video", "status", "error", "message", WARNING)
"""Columns that the driver gets of each video."""


def write_part(batch: "pyarrow.Table", *, folder: Path) -> "pyarrow.Table":
    """Write results, and return what the driver wants to know of them. It runs in Ray's tasks.

    Args:
        batch: columns of ``parquet_schema``, and ``WARNING``.
        folder: must exist; on a cluster, the same on all machines.

    Returns:
        The columns ``REPORTED`` and ``UNWRITTEN``.
    """
    import pyarrow

    ids = sorted(batch["video"].to_pylist())
    name = f"part-{hashlib.sha256(chr(10).join(ids).encode()).hexdigest()[:32]}.parquet"
    problem = None
    try:
        _write_whole(folder / name, batch.select(parquet_schema().names).cast(parquet_schema()))
    except OSError as error:
        problem = f"{folder}: {why_unwritten(error)}"
    unwritten = pyarrow.array([problem] * len(batch), pyarrow.string())
    return batch.select(list(REPORTED)).append_column(UNWRITTEN, unwritten)


class FinishedParts(NamedTuple):
    """What a folder of parts has."""

    videos: frozenset[str]
    """Ids of the videos that did not fail."""
    failed: int
    """How many did."""
    settings: frozenset[str]
    """What is in the column ``settings``: one text for each run."""


def read_finished(folder: Path) -> FinishedParts:
    """Which videos a folder has results of.

    Raises:
        DatasetError: a part is broken or not ours, or two have a row of the same video.
    """
    videos: set[str] = set()
    settings: set[str] = set()
    failed = 0
    for path in _parts(folder):
        for row in _rows(path, ["video", "status", "settings"]):
            video = check_video_id(row["video"], str(path))
            settings.add(str(row["settings"]))
            if row["status"] == FAILED:
                failed += 1
            elif video in videos:
                raise DatasetError(f"{path}: video {video[:60]!r} has a row in another part too; remove one of them")
            else:
                videos.add(video)
        check_count(len(videos), MOST_VIDEOS, "videos", folder)
    return FinishedParts(frozenset(videos), failed, frozenset(settings))


def tidy_parts(folder: Path) -> None:
    """Remove what a killed run had not finished, and the rows of videos that failed, so that they are tried again.

    Raises:
        DatasetError: a part is broken or not ours.
        OutputError: it cannot be written.
    """
    from pyarrow import compute

    for name in os.listdir(folder):
        if name.startswith(_UNFINISHED):
            (folder / name).unlink(missing_ok=True)
    for path in _parts(folder):
        with _reading(path) as file:
            table = file.read()
        kept = table.filter(compute.not_equal(table["status"], FAILED))
        if len(kept) == len(table):
            continue
        try:
            if len(kept):
                _write_whole(path, kept)
            else:
                path.unlink()
        except OSError as problem:
            raise OutputError(f"{path}: {why_unwritten(problem)}") from problem


def _write_whole(path: Path, table: "pyarrow.Table") -> None:
    """Write or replace a part. ``write_whole`` would list the folder for each, which may have many thousands."""
    import pyarrow
    from pyarrow import parquet

    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(table, buffer, compression="zstd")
    unfinished = path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
    try:
        write_durably(unfinished, bytes(buffer.getvalue()))
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder / name for name in os.listdir(folder) if name.endswith(".parquet") and name[0] != ".")


def _rows(path: Path, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    with _reading(path) as file:
        check_count(file.metadata.num_rows, MOST_VIDEOS, "videos", path)
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            yield from batch.to_pylist()


@contextmanager
def _reading(path: Path) -> "Iterator[pyarrow.parquet.ParquetFile]":
    """A part of ours.

    Raises:
        DatasetError: it is something else.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            if file.schema_arrow.names != parquet_schema().names:
                names = ", ".join(file.schema_arrow.names)[:80]
                raise DatasetError(
                    f"{path}: columns {names}, expected those of results; take another -o, or move this file away"
                )
            yield file
    except OSError as problem:
        raise DatasetError(f"{path}: {reason(problem)}; take another -o, or move this file away") from problem
    except pyarrow.ArrowException as problem:
        text = " ".join(str(problem).split())[:200]
        raise DatasetError(f"{path}: broken ({text}); remove it, and its videos are done again") from problem
