"""Writing Parquet: a row for each video of a run, also for those that failed. It needs pyarrow."""

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from stale_runtime.formats.result_rows import ResultRow
from stale_runtime.formats.shard_end import ShardEnd

if TYPE_CHECKING:
    import pyarrow

KEY: Final = b"stale-edge"
"""Of the metadata that a shard has."""
COLUMNS: Final = tuple(ResultRow.__annotations__)
_ROWS_A_GROUP: Final = 1000
_DETECTIONS_A_GROUP: Final = 200_000


def parquet_pieces(rows: Iterable[ResultRow], end: ShardEnd | None = None) -> Iterator[bytes]:
    """The content of a Parquet file, a group of rows after the other.

    Args:
        rows: of all videos.
        end: what it says of its shard; None if it is no shard.
    """
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    schema = parquet_schema()
    if end is not None:
        schema = schema.with_metadata({KEY: end.to_json().encode()})
    sink = _Sink()
    with ParquetWriter(sink, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(Table.from_pylist(group, schema=schema))
            yield sink.take()
    yield sink.take()


def parquet_schema() -> "pyarrow.Schema":
    """The columns of ``ResultRow``."""
    import pyarrow as pa

    number = pa.float64()
    detection = pa.struct([("label", pa.string()), ("start", number), ("end", number), ("score", number)])
    types = {"duration_s": number, "window": pa.int64(), "recomputed": pa.int64(), "detections": pa.list_(detection)}
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])


class _Sink(io.RawIOBase):
    """Collects what is written, to be taken piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._position += len(data)
        return len(data)

    def take(self) -> bytes:
        """All that was written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _groups(rows: Iterable[ResultRow]) -> Iterator[list[ResultRow]]:
    group: list[ResultRow] = []
    detections = 0
    for row in rows:
        group.append(row)
        detections += len(row["detections"])
        if len(group) == _ROWS_A_GROUP or detections >= _DETECTIONS_A_GROUP:
            yield group
            group, detections = [], 0
    if group:
        yield group
