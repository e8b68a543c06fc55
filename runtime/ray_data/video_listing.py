"""The videos of a run with Ray: a listing of paths with ids, as a Parquet file, text, or a folder."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stale_runtime.batch.found_files import find_files
from stale_runtime.errors import DatasetError
from stale_runtime.formats.result_rows import check_video_id
from stale_runtime.inputs.remote_files import RemoteFile, parse_source
from stale_runtime.inputs.videos import LARGEST_FILE, MOST_VIDEOS, check_count, video_id
from stale_runtime.system.files import read_text, reason
from stale_runtime.system.memory import require_memory

if TYPE_CHECKING:
    import pyarrow

LONGEST_PATH = 4096
"""Characters of a path or URL."""


class ListedVideo(NamedTuple):
    """A video of a listing."""

    video: str
    """Its id."""
    path: str
    """Absolute path of its feature file, or of the video itself."""


def read_listing(path: Path) -> list[ListedVideo]:
    """Read a listing, and make sure that no id is in it twice.

    Args:
        path: a Parquet file with a column ``path`` and perhaps a column ``video`` with ids, a text file with one path a
            line, or a folder of feature files and videos. Without ids, those of the file names are taken, as
            ``stale-run`` does. Relative paths start at the current folder.

    Raises:
        DatasetError: it cannot be read, is empty or too long, an id is there twice, or an id or path is none.
        FeatureError: the folder has no usable files.
    """
    if os.path.isdir(path):
        return check_listing(((None, str(file)) for file in find_files([path])), path)
    if path.suffix.lower() == ".parquet":
        return check_listing(_parquet_rows(path), path)
    lines = read_text(path, limit=LARGEST_FILE, error=DatasetError).splitlines()
    return check_listing(((None, line.strip()) for line in lines if line.strip()), path)


def check_listing(rows: Iterable[tuple[Any, Any]], place: Path) -> list[ListedVideo]:
    """Check pairs of id and path from anywhere.

    Args:
        rows: id, or None for that of the file name, and path of each video.
        place: where they are from, for messages.

    Raises:
        DatasetError: as for ``read_listing``.
    """
    found: dict[str, ListedVideo] = {}
    for number, (video, path) in enumerate(rows, start=1):
        check_count(number, MOST_VIDEOS, "videos", place)
        where = f"{place}, row {number}"
        if not isinstance(path, str) or not 0 < len(path) <= LONGEST_PATH or "\0" in path:
            raise DatasetError(f"{where}: path {str(path)[:60]!r}, expected 1 to {LONGEST_PATH:,} characters of text")
        video = check_video_id(video_id(Path(path).stem) if video is None else video, where)
        listed = ListedVideo(video, _whole_path(path, where))
        other = found.setdefault(video, listed)
        if other is not listed:
            raise DatasetError(
                f"{where}: video {video[:60]!r} is listed twice, as {other.path} and {listed.path}; leave one out, or "
                "give each an id of its own in a column video"
            )
    if not found:
        raise DatasetError(f"{place}: no videos, expected at least one")
    return list(found.values())


def _whole_path(path: str, where: str) -> str:
    """A path that means the same in every process: from the root of the file system, or a URL of object storage."""
    try:
        source = parse_source(path)
    except ValueError as problem:
        raise DatasetError(f"{where}: {problem}") from problem
    return str(source) if isinstance(source, RemoteFile) else os.path.abspath(path)


def _parquet_rows(path: Path) -> Iterator[tuple[Any, Any]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_columns(file.schema_arrow, path)
            check_count(file.metadata.num_rows, MOST_VIDEOS, "videos", path)
            groups = range(file.metadata.num_row_groups)
            size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
            require_memory(size, str(path), "split it")
            columns = [name for name in ("video", "path") if name in names]
            for batch in file.iter_batches(batch_size=4096, columns=columns):
                for row in batch.to_pylist():
                    yield (row["video"] or "" if "video" in names else None), row["path"]
    except OSError as problem:
        raise DatasetError(f"{path}: {reason(problem)}") from problem
    except pyarrow.ArrowException as problem:
        raise DatasetError(f"{path}: not a usable Parquet file ({' '.join(str(problem).split())[:200]})") from problem


def _check_columns(schema: "pyarrow.Schema", path: Path) -> None:
    import pyarrow

    names = schema.names
    if "path" not in names:
        raise DatasetError(f"{path}: columns {', '.join(names)[:80]}, expected path, and perhaps video with the ids")
    for name in ("video", "path"):
        kind = schema.field(name).type if names.count(name) == 1 else None
        if name in names and kind not in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()):
            raise DatasetError(f"{path}: column {name} of type {kind}, expected one column of text")
