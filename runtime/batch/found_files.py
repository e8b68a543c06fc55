"""Finding the files of a run: those that were given, and those of folders."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from stale_runtime.errors import FeatureError
from stale_runtime.inputs.feature_folder import is_feature_file, video_files
from stale_runtime.inputs.feature_origin import why_not_made_from
from stale_runtime.inputs.shards import Listing, Shard
from stale_runtime.inputs.videos import is_video, video_id

MOST_FILES = 100_000
"""Videos in one run: all their detections stay in memory until the end, at most 30 kB a video that is not long."""


def find_files(
    given: Sequence[Path], *, features: bool = True, say: Callable[[str], object] | None = None
) -> list[Path]:
    """The files of a run: each as given, and those of each folder in order of name.

    Of a video and the features that ``stale-features`` made from it, only the features are taken.

    Args:
        given: files and folders.
        features: whether feature files are wanted; False for videos only.
        say: called with a line if features are taken instead of videos, or files of a folder are ignored.

    Raises:
        FeatureError: a folder has none or cannot be read, two files are of one video, or there are too many.
    """
    return list(_require_few(_find_all(given, features=features, say=say)).values())


def find_shard(
    given: Sequence[Path], shard: Shard, *, features: bool = True, say: Callable[[str], object] | None = None
) -> tuple[list[Path], Listing]:
    """Like ``find_files``, those whose videos belong to a shard. They may be none.

    Returns:
        The files, and what all shards have in common: the listing of all videos.

    Raises:
        FeatureError: as for ``find_files``, but only the files of the shard may not be too many.
    """
    found = _find_all(given, features=features, say=say)
    own = _require_few({video: path for video, path in found.items() if shard.has(video)})
    return list(own.values()), Listing.of(found)


def _require_few(found: dict[str, Path]) -> dict[str, Path]:
    if len(found) > MOST_FILES:
        raise FeatureError(
            f"{len(found):,} files, expected at most {MOST_FILES:,}; divide them into several runs: --shard 0/64 takes "
            "a 64th of them"
        )
    return found


def _find_all(given: Sequence[Path], *, features: bool, say: Callable[[str], object] | None) -> dict[str, Path]:
    """All files, by video id."""
    paths: list[Path] = []
    for path in given:
        paths += video_files(path, features=features, say=say) if os.path.isdir(path) else [path]
    found: dict[str, Path] = {}
    taken: list[tuple[Path, Path]] = []
    for path in paths:
        name = video_id(path.stem)
        other = found.setdefault(name, path)
        if other is not path:
            found[name], video = _require_made_from(path, other)
            taken.append((found[name], video))
    if taken and say is not None:
        say(_describe_taken(taken))
    return found


def _require_made_from(path: Path, other: Path) -> tuple[Path, Path]:
    """Of two files with one video id, the features, and the video that they were made from.

    Raises:
        FeatureError: they are not that.
    """
    text = f"{path}: the same video id as {other}"
    features, video = (other, path) if is_video(path) else (path, other)
    if not is_video(video) or not is_feature_file(features):
        raise FeatureError(f"{text}; rename one of them, or leave it out")
    if (why := why_not_made_from(features, video)) is not None:
        raise FeatureError(f"{text}, and {why}; rename one if they are of two videos, else move one to another folder")
    return features, video


def _describe_taken(taken: Sequence[tuple[Path, Path]]) -> str:
    features, video = taken[0]
    if len(taken) == 1:
        return f"{features} is taken instead of {video}, which it was made from"
    return f"{features} and {len(taken) - 1:,} more are taken instead of the videos that they were made from"
