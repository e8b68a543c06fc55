"""Folders of feature files."""

import os
from pathlib import Path

from stale_runtime.errors import FeatureError
from stale_runtime.inputs.videos import video_id
from stale_runtime.system.files import reason


def feature_files(folder: Path, *, option: str | None = None) -> dict[str, Path]:
    """List the ``.npy`` files of a folder, without opening them.

    Hidden files are skipped, because file systems and their tools create such files beside the real ones.

    Args:
        folder: contains one feature file for each video.
        option: the command-line option that named the folder, for messages.

    Returns:
        Paths by video id, sorted by file name.

    Raises:
        FeatureError: the folder cannot be read, contains no such file, or contains two files of one video.
    """
    name = f"{option} {folder}" if option else str(folder)
    try:
        names = sorted(os.listdir(folder))
    except OSError as problem:
        raise FeatureError(f"{name}: {reason(problem)}; give a folder of .npy feature files") from problem
    found: dict[str, Path] = {}
    for file in names:
        if file.startswith(".") or not file.endswith(".npy"):
            continue
        path = folder / file
        other = found.setdefault(video_id(path.stem), path)
        if other is not path:
            raise FeatureError(f"{path}: the same video id as {other}; rename or remove one of them")
    if not found:
        raise FeatureError(f"{name}: no .npy files in this folder; give the folder that contains the feature files")
    return found
