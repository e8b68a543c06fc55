"""Reading Parquet files of results, which anybody may have written. It needs pyarrow."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stale_runtime.errors import DatasetError, MissingPackageError
from stale_runtime.formats.parquet_table import COLUMNS, KEY
from stale_runtime.formats.result_rows import VideoResult, read_result_row
from stale_runtime.formats.shard_end import ShardEnd
from stale_runtime.system.files import MEGABYTE
from stale_runtime.system.memory import require_memory

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

LARGEST_ROW_GROUP: Final = 1024 * MEGABYTE
"""Bytes of a row group before they are packed by zstd or the like."""
MOST_VALUES: Final = 10_000_000
"""Values of a column in a row group, such as the scores of all its detections; equal ones take no room in a file."""
LARGEST_TEXT: Final = 64 * MEGABYTE
"""Bytes of a text in a file's metadata."""
_MOST_ITEMS: Final = 1_000_000
"""Columns and row groups that its metadata may list."""
_MAGIC: Final = b"PAR1"
_ROWS_A_BATCH: Final = 10
_GROWTH: Final = 20
"""Bytes of memory that a row takes as Python's values, at most, for each byte of Arrow's."""


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet files do."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def require_pyarrow(what: str) -> None:
    """Make sure that pyarrow is installed.

    Args:
        what: what needs it.

    Raises:
        MissingPackageError: it is not.
    """
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise MissingPackageError.for_extra(f"{what} needs pyarrow", "parquet")


@dataclass(frozen=True, kw_only=True)
class ParquetResults:
    """A Parquet file of results, of which so far only the metadata was read."""

    path: Path
    end: ShardEnd | None
    """None if it is not the file of a shard, such as a part of what Ray wrote."""
    settings: str | None
    """The settings that all its rows have; None if it has no rows."""

    @classmethod
    def open(cls, path: Path) -> "ParquetResults":
        """Read the metadata of a file.

        Raises:
            DatasetError: it is not a Parquet file with the columns of ``ResultRow``.
            MissingPackageError: pyarrow is not installed.
        """
        require_pyarrow(str(path))
        with _open_table(path, COLUMNS) as file:
            text = (file.schema_arrow.metadata or {}).get(KEY)
            first = next(_batches(file, path, ("settings",)), [])
        end = None if text is None else ShardEnd.read(_parse_end(text, path), str(path))
        settings = first[0].get("settings") if first else None if end is None else end.settings_text
        if first and not isinstance(settings, str):
            raise DatasetError(f"{path}: a row without settings, expected those of the run")
        return cls(path=path, end=end, settings=settings)

    def results(self) -> Iterator[VideoResult]:
        """Read all rows.

        Raises:
            DatasetError: a row is not what a run writes, or of a run with other settings than the first.
        """
        number = 0
        with _open_table(self.path, COLUMNS) as file:
            for batch in _batches(file, self.path, COLUMNS):
                for row in batch:
                    number += 1
                    if row["settings"] != self.settings:
                        raise DatasetError(f"{self.path}, row {number:,}: of a run with other settings than row 1")
                    yield read_result_row(row, f"{self.path}, row {number:,}")


def read_video_column(path: Path) -> Iterator[Any]:
    """The values of the column ``video`` of any Parquet file.

    Raises:
        DatasetError: it has no such column, or cannot be read.
        MissingPackageError: pyarrow is not installed.
    """
    require_pyarrow(str(path))
    with _open_table(path, ("video",)) as file:
        for batch in _batches(file, path, ("video",)):
            for row in batch:
                yield row["video"]


def _open_table(path: Path, columns: Iterable[str]) -> "ParquetFile":
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(
            path, thrift_string_size_limit=LARGEST_TEXT, thrift_container_size_limit=_MOST_ITEMS, pre_buffer=False
        )
        missing = [name for name in columns if name not in file.schema_arrow.names]
    except (OSError, ArrowException, ValueError) as problem:
        raise DatasetError(f"{path}: not a Parquet file that can be read ({_first_line(problem)})") from problem
    if missing:
        file.close()
        raise DatasetError(
            f"{path}: no column {', '.join(missing)}, expected those that stale-run --format parquet has"
        )
    return file


def _batches(file: "ParquetFile", path: Path, columns: Iterable[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows in batches, from which values of the wrong type are not sorted out."""
    from pyarrow import ArrowException

    groups = file.metadata.num_row_groups
    if not groups:  # which older versions of pyarrow refuse to read
        return
    for n in range(groups):
        _require_small(file.metadata.row_group(n), path)
    try:
        for batch in file.iter_batches(batch_size=_ROWS_A_BATCH, columns=list(columns), use_threads=False):
            require_memory(_GROWTH * batch.nbytes, str(path), "use a machine with more")
            yield batch.to_pylist()
    except (OSError, ArrowException, ValueError) as problem:
        raise DatasetError(f"{path}: damaged ({_first_line(problem)})") from problem


def _require_small(group: Any, path: Path) -> None:
    """Make sure that a row group is not too large to be unpacked."""
    size = group.total_byte_size
    values = max((group.column(n).num_values for n in range(group.num_columns)), default=0)
    if not 0 <= size <= LARGEST_ROW_GROUP or not 0 <= values <= MOST_VALUES:
        raise DatasetError(
            f"{path}: a row group of {size:,} bytes and {values:,} values, expected at most {LARGEST_ROW_GROUP:,} and "
            f"{MOST_VALUES:,}; write it again with smaller row groups"
        )
    require_memory(size, str(path), "write it again with smaller row groups")


def _parse_end(text: bytes, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise DatasetError(f"{path}: its metadata is not valid JSON ({problem})") from problem


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0][:200]
