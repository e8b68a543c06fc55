"""Folders of feature files that an export measures with."""

from pathlib import Path

from stale_runtime.errors import DatasetError
from stale_runtime.inputs.videos import video_id
from stale_runtime.system.files import reason


def feature_paths(folder: Path, option: str) -> dict[str, Path]:
    """The ``.npy`` files of a folder, by video id.

    Args:
        folder: of features.
        option: what messages call it.

    Raises:
        DatasetError: the folder cannot be read.
    """
    try:
        return {video_id(path.stem): path for path in sorted(folder.iterdir()) if path.suffix == ".npy"}
    except OSError as problem:
        raise DatasetError(f"{option} {folder}: {reason(problem)}; give a folder of .npy feature files") from problem
