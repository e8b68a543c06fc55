"""What is known of a feature file that can be trained on, once all of it was read."""

from dataclasses import dataclass
from pathlib import Path

from stale_runtime.inputs.feature_file import open_features
from stale_runtime.inputs.feature_origin import FeatureOrigin, read_sidecar
from stale_runtime.inputs.feature_statistics import FeatureSummary, summarise_features
from stale_runtime.segments import FloatArray


@dataclass(frozen=True, kw_only=True)
class UsableFeatures:
    """What a selection of videos needs to know of a feature file, but for the features themselves."""

    summary: FeatureSummary | None
    """What the features look like; None if there are values that are not finite in float32."""
    origin: FeatureOrigin | None
    """How they were made; None if ``stale-features`` did not write it beside them."""
    note: str | None
    """What the user should know of the file; None if there is nothing."""


def examine_features(path: Path, channels: int) -> tuple[FloatArray, UsableFeatures]:
    """Read a whole feature file, and what stands beside it.

    Args:
        path: the file.
        channels: C, the width of the features.

    Returns:
        The features (T0, C) in the precision of the file, and what is known of them.

    Raises:
        FeatureError: it cannot be read, is not such a file, or contains NaN or infinity.
        RecipeError: what stands beside it cannot be used.
    """
    with open_features(path, channels) as file:
        features = file.read()
    origin = read_sidecar(path, snippets=len(features))
    return features, UsableFeatures(summary=summarise_features(features), origin=origin, note=file.note)
