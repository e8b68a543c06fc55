"""Folders of feature files and videos."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from stale_runtime.errors import FeatureError
from stale_runtime.inputs.feature_origin import SUFFIX as SIDECAR_SUFFIX
from stale_runtime.inputs.other_formats import count_others, describe_suffix
from stale_runtime.inputs.remote_copies import list_folder
from stale_runtime.inputs.remote_files import RemoteFile, Source
from stale_runtime.inputs.videos import is_video, video_id
from stale_runtime.system.files import reason

FEATURE_SUFFIXES = (".npy", ".npz")
"""How the names of feature files end, in lower case."""
_Place = TypeVar("_Place", Path, RemoteFile)


def feature_files(
    folder: Path, *, option: str | None = None, say: Callable[[str], object] | None = None
) -> dict[str, Path]:
    """List the ``.npy`` and ``.npz`` files of a folder, without opening them.

    Hidden files are skipped, because file systems and their tools create such files beside the real ones.

    Args:
        folder: contains one feature file for each video.
        option: the command-line option that named the folder, for messages.
        say: called with one line if the folder contains other files or folders, which are ignored.

    Returns:
        Paths by video id, sorted by file name.

    Raises:
        FeatureError: the folder cannot be read, contains no such file, or contains two files of one video.
    """
    return paths_by_id(_files(folder, is_feature_file, ".npy files", option=option, say=say))


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


def video_files(
    folder: _Place, *, features: bool, option: str | None = None, say: Callable[[str], object] | None = None
) -> list[_Place]:
    """List the videos of a folder, without opening them. Hidden files are skipped.

    Args:
        folder: contains one file for each video.
        features: whether feature files are listed too.
        option: the command-line option that named the folder, for messages.
        say: as for ``feature_files``.

    Returns:
        Paths sorted by file name; several may be of one video.

    Raises:
        FeatureError, RemoteFileError: the folder cannot be read, or contains no such file.
        MissingPackageError: what reads it is not installed.
    """
    if not features:
        return _files(folder, is_video, "videos", option=option, say=say)
    return _files(
        folder,
        lambda path: is_video(path) or is_feature_file(path),
        ".npy files or videos",
        option=option,
        say=say,
    )


def is_feature_file(path: Source) -> bool:
    """Whether a file's name is that of a feature file."""
    return path.suffix.lower() in FEATURE_SUFFIXES


def is_folder(source: Source) -> bool:
    """Whether a source is a folder: a URL is one unless its name is that of a feature file or a video."""
    if isinstance(source, RemoteFile):
        return not (is_video(source) or is_feature_file(source))
    return os.path.isdir(source)


def _files(
    folder: _Place,
    wanted: Callable[[Source], bool],
    what: str,
    *,
    option: str | None,
    say: Callable[[str], object] | None,
) -> list[_Place]:
    name = f"{option} {folder}" if option else str(folder)
    shown, folders = _list(folder, wanted, f"{name}: {{}}; give a folder of {what}")
    found = [path for path in shown if wanted(path)]
    others = [path for path in shown if not wanted(path) and not path.name.endswith(SIDECAR_SUFFIX)]
    suffixes = [path.suffix for path in others]
    ignored = count_others(suffixes, len(folders))
    if not found:
        remedy = describe_suffix(suffixes)
        there = f", but {ignored}" if ignored else ""
        inside = f"{folders[0]} or another folder inside" if folders else "the folder that contains them"
        raise FeatureError(f"{name}: no {what} in this folder{there}; {remedy or f'give {inside}'}")
    if ignored and say is not None:
        say(f"{name}: {ignored} ignored")
    return found


def _list(folder: _Place, wanted: Callable[[Source], bool], message: str) -> tuple[list[_Place], list[str]]:
    """The files of a folder, sorted by name and without hidden ones, and the folders inside that are not wanted."""
    if isinstance(folder, RemoteFile):
        return list_folder(folder)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as problem:
        raise FeatureError(message.format(reason(problem))) from problem
    shown = [(folder / entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    folders = [str(path) for path, is_dir in shown if is_dir and not wanted(path)]
    return [path for path, is_dir in shown if not is_dir or wanted(path)], folders
