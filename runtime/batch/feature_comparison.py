"""Comparing a feature file with the features that the network was trained on, before it is looked at."""

from pathlib import Path

from stale_runtime.bundle.manifest import Manifest
from stale_runtime.errors import RecipeError, StaleError
from stale_runtime.inputs.feature_file import open_features
from stale_runtime.inputs.feature_origin import read_sidecar
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.inputs.videos import video_id


def find_problem(path: Path, manifest: Manifest, timeline: Timeline) -> str | None:
    """What is likely to be wrong with the features of a video, with the path and the remedy; None if nothing is.

    At most ``SAMPLE_SNIPPETS`` of its snippets are read, so that this is cheap however long it is. A file that cannot
    be read is no problem here: detection says so.

    Args:
        path: a ``.npy`` file; what ``stale-features`` wrote beside it is compared too.
        manifest: says what the network was trained on.
        timeline: how long videos last.
    """
    check = manifest.feature_check
    if not check.knows_anything:
        return None
    try:
        with open_features(path, manifest.channels) as file:
            summary, snippets = file.summarise(), file.snippets
        duration_s = timeline.duration_of(video_id(path.stem), snippets)
        origin = read_sidecar(path, snippets=snippets)
    except RecipeError as problem:
        return str(problem)
    except StaleError:
        return None
    found = check.problem_with(
        summary, origin=origin, snippet_s=duration_s / snippets if duration_s is not None else None
    )
    return f"{path}: {found}" if found is not None else None
