"""How a feature file was made, as ``stale-features`` writes beside it: ``holiday.recipe.json`` for ``holiday.npy``."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from stale_runtime.errors import RecipeError, VideoError
from stale_runtime.inputs.recipe import LARGEST_FILE, FeatureRecipe
from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.system.files import open_without_blocking, read_json, reason, refuse_irregular

FORMAT_VERSION: Final = 1
SUFFIX: Final = ".recipe.json"
_NAMES = ("format_version", "recipe", "duration_s", "snippets", "source_sha256")
DURATION_SHARE: Final = 0.02
"""Part of the duration by which rows may fall short of it or exceed it; less than one snippet is always allowed."""
_NONSENSE = 3.0
"""If rows and duration are this many times apart, neither can be believed."""
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
        covered_s = self._covered_s
        if self.duration_problem and max(covered_s, self.duration_s) >= _NONSENSE * min(covered_s, self.duration_s):
            raise ValueError(f"{self.duration_problem}, and it is probably of another video")

    @property
    def duration_problem(self) -> str | None:
        """How duration and rows disagree; None if they agree, or the recipe does not say how far apart rows are.

        ``stale-features`` writes a row for each whole ``snippet_s``; tools that leave out a last row, or round
        ``snippet_s``, stay within one snippet or ``DURATION_SHARE`` of that.
        """
        snippet_s, covered_s = self.recipe.snippet_s, self._covered_s
        if snippet_s is None:
            return None
        if abs(self.duration_s - covered_s) <= max(snippet_s, DURATION_SHARE * covered_s) * (1 + 1e-9):
            return None
        return (
            f"duration_s is {self.duration_s:,.6g}, but {self.snippets:,} rows of {snippet_s:.6g} s are "
            f"{covered_s:,.6g} s"
        )

    @property
    def _covered_s(self) -> float:
        """Seconds that the rows stand for; the duration if it is unknown how far apart they are."""
        return self.duration_s if self.recipe.snippet_s is None else self.snippets * self.recipe.snippet_s

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


def hash_video(path: Path) -> str:
    """The SHA-256 digest of a video file, as ``FeatureOrigin.source_sha256`` has it.

    Raises:
        VideoError: it cannot be read, or is not a regular file.
    """
    try:
        with open(path, "rb", opener=open_without_blocking) as file:
            refuse_irregular(file.fileno(), path, VideoError)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise VideoError(f"{path}: {reason(problem)}") from problem


def why_not_made_from(features: Path, video: Path) -> str | None:
    """Why features may be of another video; None if what stands beside them says that they were made from it.

    Args:
        features: a ``.npy`` file.
        video: the video file, all of which is read if something stands beside the features.
    """
    beside = sidecar_path(features).name
    try:
        origin = read_sidecar(features)
        if origin is None:
            return f"there is no {beside} to show that the one was made from the other"
        return None if origin.source_sha256 == hash_video(video) else f"{beside} says it was made from another video"
    except (RecipeError, VideoError) as problem:
        return str(problem).partition("; ")[0]
