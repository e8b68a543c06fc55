"""How a feature file was made, as ``stale-features`` writes beside it: ``holiday.recipe.json`` for ``holiday.npy``."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from stale_runtime.errors import RecipeError
from stale_runtime.inputs.recipe import LARGEST_FILE, FeatureRecipe
from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.system.files import read_json

FORMAT_VERSION: Final = 1
SUFFIX: Final = ".recipe.json"
_NAMES = ("format_version", "recipe", "duration_s", "snippets", "source_sha256")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class FeatureOrigin:
    """How the features of one video were made, and from what."""

    recipe: FeatureRecipe
    duration_s: float
    """How long the video lasts, in seconds."""
    snippets: int
    """T0, the rows of the feature file, by which a file that was replaced is noticed."""
    source_sha256: str
    """Lower-case hexadecimal digest of the video file."""

    def __post_init__(self) -> None:
        if not 0 < self.duration_s <= LONGEST_S:
            raise ValueError(f"duration_s is {self.duration_s:.6g}, expected more than 0 and at most {LONGEST_S:.0e}")
        if not 1 <= self.snippets < 2**40:
            raise ValueError(f"snippets is {self.snippets}, expected at least 1")
        if not _SHA256.fullmatch(self.source_sha256):
            raise ValueError(f"source_sha256 is {self.source_sha256[:60]!r}, expected 64 hexadecimal digits")

    def to_bytes(self) -> bytes:
        """The content of the file beside the features; it ends with a newline."""
        content = {"format_version": FORMAT_VERSION, **asdict(self), "recipe": self.recipe.to_json()}
        return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: Any) -> "FeatureOrigin":
        """Read the parsed content of that file.

        Raises:
            ValueError: it is something else; the message says what is wrong.
        """
        if not isinstance(content, dict) or content.keys() != set(_NAMES):
            raise ValueError(f"not what stale-features writes, expected an object with {', '.join(_NAMES)}")
        if content["format_version"] != FORMAT_VERSION:
            shown = repr(content["format_version"])[:20]
            raise ValueError(f"format_version {shown}, this version of stale-edge reads {FORMAT_VERSION}")
        duration_s, snippets, digest = content["duration_s"], content["snippets"], content["source_sha256"]
        if type(duration_s) not in (int, float) or type(snippets) is not int or not isinstance(digest, str):
            raise ValueError("duration_s, snippets or source_sha256 is of the wrong type")
        recipe = FeatureRecipe.from_json(content["recipe"])
        return cls(recipe=recipe, duration_s=float(duration_s), snippets=snippets, source_sha256=digest)


def sidecar_path(features: Path) -> Path:
    """Where the origin of a feature file stands: ``holiday.recipe.json`` beside ``holiday.npy``."""
    return features.with_name(features.stem + SUFFIX)


def read_sidecar(features: Path, *, snippets: int | None = None) -> FeatureOrigin | None:
    """How a feature file was made; None if there is nothing beside it that says so.

    Args:
        features: the ``.npy`` file.
        snippets: T0, the rows that it has; None if they need not agree.

    Raises:
        RecipeError: the file beside it cannot be read, is not what ``stale-features`` writes, or is about features of
            another number of rows.
    """
    path = sidecar_path(features)
    try:
        if not path.exists():
            return None
        origin = FeatureOrigin.from_json(read_json(path, limit=LARGEST_FILE, error=RecipeError))
        if snippets not in (None, origin.snippets):
            raise ValueError(f"says {origin.snippets:,} rows, {features.name} has {snippets:,}")
        return origin
    except (ValueError, OSError, RecipeError) as problem:
        where = "" if isinstance(problem, RecipeError) else f"{path}: "
        raise RecipeError(f"{where}{problem}; delete it, or make the features again with stale-features") from None
