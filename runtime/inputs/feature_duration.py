"""How long the video of a feature file lasts."""

from pathlib import Path

from stale_runtime.inputs.feature_origin import read_sidecar
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
    origin = read_sidecar(path, snippets=snippets)
    return None if origin is None else origin.duration_s
