"""The list of the videos that a merged run has to have."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from stale_runtime.errors import DatasetError
from stale_runtime.formats.parquet_results import is_parquet, read_video_column
from stale_runtime.formats.result_rows import check_video_id
from stale_runtime.inputs.feature_folder import is_feature_file
from stale_runtime.inputs.videos import LARGEST_FILE, is_video, video_id
from stale_runtime.system.files import read_text


def read_video_list(path: Path) -> dict[str, None]:
    """The ids of all videos in a list, in its order.

    Args:
        path: text with a line for each video, its id or the path or address of its file; or a Parquet file whose column
            ``video`` has the ids.

    Raises:
        DatasetError: it cannot be read, or lists a video twice, or none.
        MissingPackageError: it is a Parquet file, and pyarrow is not installed.
    """
    if is_parquet(path):
        ids: Iterable[str] = (check_video_id(value, str(path)) for value in read_video_column(path))
    else:
        lines = read_text(path, limit=LARGEST_FILE, error=DatasetError).splitlines()
        ids = (check_video_id(_id_of(line.strip()), str(path)) for line in lines if line.strip())
    listed: dict[str, None] = {}
    for video in ids:
        if video in listed:
            raise DatasetError(f"{path}: video {video[:60]!r} is listed twice; remove one of them")
        listed[video] = None
    if not listed:
        raise DatasetError(f"{path}: no videos, expected a line for each")
    return listed


def _id_of(line: str) -> str:
    """The id that a line means: that of a file, or the line itself."""
    name = urlsplit(line).path if "://" in line else line
    file = Path(PurePosixPath(name).name)
    if "/" in name or is_video(file) or is_feature_file(file):
        return video_id(file.stem)
    return video_id(name)
