"""How long the video of a feature file lasts."""

from pathlib import Path

from stale_runtime.errors import RecipeError
from stale_runtime.inputs.feature_origin import read_sidecar, sidecar_path
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.inputs.videos import video_id


def duration_of_features(path: Path, snippets: int, timeline: Timeline) -> float | None:
    """Seconds that the video of a feature file lasts: what the user says, else what ``stale-features`` wrote beside it.

    Args:
        path: the ``.npy`` file.
        snippets: T0, the snippets of the video before resampling.
        timeline: what the user says.

    Returns:
        Seconds; None if nothing is known.

    Raises:
        DatasetError: there is a list of durations, and the video is not in it.
        RecipeError: what stands beside the file is broken, or belongs to other features.
    """
    duration_s = timeline.duration_of(video_id(path.stem), snippets)
    if duration_s is not None:
        return duration_s
    return recorded_duration(path, snippets)


def recorded_duration(path: Path, snippets: int | None = None) -> float | None:
    """What ``stale-features`` wrote beside a feature file; None if it wrote nothing.

    Args:
        path: the ``.npy`` file.
        snippets: how many it has; None to believe what stands beside it.

    Raises:
        RecipeError: as for ``duration_of_features``.
    """
    origin = read_sidecar(path)
    if origin is None:
        return None
    if snippets not in (None, origin.snippets):
        beside = sidecar_path(path)
        raise RecipeError(
            f"{beside}: about {origin.snippets:,} snippets, but {path.name} has {snippets:,}; delete {beside.name}, or "
            "make the features again with stale-features"
        )
    return origin.duration_s
