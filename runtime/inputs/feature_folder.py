"""Folders of feature files and videos."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from stale_runtime.errors import FeatureError
from stale_runtime.inputs.videos import is_video, video_id
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
    return paths_by_id(_files(folder, is_feature_file, ".npy files", option=option))


def paths_by_id(paths: Iterable[Path]) -> dict[str, Path]:
    """Paths by video id.

    Raises:
        FeatureError: two of them are of one video.
    """
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(video_id(path.stem), path)
        if other is not path:
            raise FeatureError(f"{path}: the same video id as {other}; rename or remove one of them")
    return found


def video_files(folder: Path, *, features: bool, option: str | None = None) -> list[Path]:
    """List the videos of a folder, without opening them. Hidden files are skipped.

    Args:
        folder: contains one file for each video.
        features: whether ``.npy`` files are listed too.
        option: the command-line option that named the folder, for messages.

    Returns:
        Paths sorted by file name; several may be of one video.

    Raises:
        FeatureError: the folder cannot be read, or contains no such file.
    """
    if not features:
        return _files(folder, is_video, "videos", option=option)
    return _files(folder, lambda path: is_video(path) or is_feature_file(path), ".npy files or videos", option=option)


def is_feature_file(path: Path) -> bool:
    """Whether a file's name is that of a feature file."""
    return path.name.endswith(".npy")


def _files(folder: Path, wanted: Callable[[Path], bool], what: str, *, option: str | None = None) -> list[Path]:
    name = f"{option} {folder}" if option else str(folder)
    try:
        names = sorted(os.listdir(folder))
    except OSError as problem:
        raise FeatureError(f"{name}: {reason(problem)}; give a folder of {what}") from problem
    found = [folder / file for file in names if not file.startswith(".") and wanted(folder / file)]
    if not found:
        raise FeatureError(f"{name}: no {what} in this folder; give the folder that contains them")
    return found
