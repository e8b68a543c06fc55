"""How snippet features are made from a video: the feature recipe of a checkpoint."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from stale_runtime.errors import RecipeError
from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.system.files import MEGABYTE, read_json
from stale_runtime.system.json_dataclasses import build
from stale_runtime.system.text import has_unusable_characters

LARGEST_FILE = MEGABYTE
LARGEST_IMAGE = 2048
"""Most pixels on a side of the image that a vision tower gets."""
MOST_FRAMES = 1000
"""Most frames that are averaged in a row."""
LONGEST_TOWER = 500
"""Characters of a tower's name."""
UNKNOWN: Final = "unknown"
"""How JSON says that a property is unknown."""
_CHOICES = {
    "interpolation": ("bicubic", "bilinear"),
    "resize": ("crop", "squash"),
    "channel_order": ("rgb", "bgr"),
}
_RANGES = {"image_size": (1, LARGEST_IMAGE), "snippet_s": (1e-6, LONGEST_S), "frames": (1, MOST_FRAMES)}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST_COLOUR = 100.0
_SMALLEST_DEVIATION = 1e-3


@dataclass(frozen=True, kw_only=True)
class FeatureRecipe:
    """What has to be known to make the same features from another video. None stands for unknown.

    Row r of a video's features shows the time (r + 0.5) * ``snippet_s``. A video of d seconds has
    max(1, floor(d / ``snippet_s``)) rows, see ``row_count``.
    """

    tower: str | None = None
    """Hugging Face id, or a name, of the vision tower."""
    tower_sha256: str | None = None
    """Lower-case hexadecimal digest of the tower's weights."""
    image_size: int | None = None
    """Pixels on a side of the square image that the tower gets."""
    interpolation: str | None = None
    """``bicubic`` or ``bilinear``: how frames are resized."""
    resize: str | None = None
    """``crop``: the shorter side to ``image_size``, then the centre; ``squash``: both sides to ``image_size``."""
    mean: tuple[float, ...] | None = None
    """(3,) is subtracted from pixels on a scale from 0 to 1, in the order of the channels."""
    deviation: tuple[float, ...] | None = None
    """(3,) pixels are divided by this afterwards."""
    channel_order: str | None = None
    """``rgb`` or ``bgr``: the channels of the image that the tower gets."""
    snippet_s: float | None = None
    """Seconds from a row to the next."""
    frames: int | None = None
    """Frames a row: 1 shows the middle of its time; of n, evenly spread in it, the features are averaged."""
    normalised: bool | None = None
    """Whether features have length 1."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in (None, *choices):
                raise ValueError(
                    f"{name} is {_shown(getattr(self, name))}, expected {' or '.join((*choices, UNKNOWN))}"
                )
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} is {_shown(value)}, expected {least:g} to {most:g}, or {UNKNOWN}")
        self._check_colours("mean", -_LARGEST_COLOUR)
        self._check_colours("deviation", _SMALLEST_DEVIATION)
        if self.tower is not None and (
            not self.tower.strip() or len(self.tower) > LONGEST_TOWER or has_unusable_characters(self.tower)
        ):
            raise ValueError(
                f"tower is {_shown(self.tower)}, expected a name of at most {LONGEST_TOWER} characters, or {UNKNOWN}"
            )
        if self.tower_sha256 is not None and not _SHA256.fullmatch(self.tower_sha256):
            raise ValueError(
                f"tower_sha256 is {_shown(self.tower_sha256)}, expected 64 lower-case hexadecimal digits, or {UNKNOWN}"
            )

    def _check_colours(self, name: str, least: float) -> None:
        values = getattr(self, name)
        if values is None:
            return
        if len(values) != 3 or not all(math.isfinite(v) and least <= v <= _LARGEST_COLOUR for v in values):
            raise ValueError(
                f"{name} is {_shown(values)}, expected 3 numbers from {least:g} to {_LARGEST_COLOUR:g} on a scale "
                f"where white is 1, or {UNKNOWN}"
            )

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the properties that are unknown."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the unknown properties without which a given tower can't compute features."""
        return tuple(name for name in self.unknown if name not in ("tower", "tower_sha256"))

    @property
    def usable(self) -> bool:
        """Whether enough is known to compute features with a given tower."""
        return not self.missing

    def row_count(self, duration_s: float) -> int:
        """How many rows of features a video has: one for each whole ``snippet_s``, but at least one.

        Args:
            duration_s: how long the video lasts, in seconds.

        Raises:
            ValueError: ``snippet_s`` is unknown.
        """
        if self.snippet_s is None:
            raise ValueError(f"snippet_s is {UNKNOWN}, expected the seconds from a row to the next")
        return max(1, math.floor(duration_s / self.snippet_s * (1 + 1e-12)))  # 3 / 0.1 is a little less than 30

    def differences(self, other: "FeatureRecipe") -> tuple[str, ...]:
        """Names of the properties that are known in both recipes, and are not the same.

        Towers with the same hash are the same, whatever they are called.
        """
        same_tower = self.tower_sha256 is not None and self.tower_sha256 == other.tower_sha256
        return tuple(
            name
            for name in (field.name for field in fields(self))
            if getattr(self, name) != getattr(other, name)
            and None not in (getattr(self, name), getattr(other, name))
            and not (name == "tower" and same_tower)
        )

    def completed_by(self, other: "FeatureRecipe") -> "FeatureRecipe":
        """A copy that has the other's properties where this recipe does not know them."""
        return replace(self, **{name: getattr(other, name) for name in self.unknown})

    def tell_from(self, other: "FeatureRecipe", names: Iterable[str]) -> str:
        """How the recipe differs from another in some properties, such as ``channel_order bgr instead of rgb``."""
        told = [name for name in names if name != "tower_sha256"]
        ours, theirs = self.to_json(), other.to_json()
        listed = [f"{name} {_in_words(ours[name])} instead of {_in_words(theirs[name])}" for name in told]
        return ", ".join(listed) or f"a tower {self.tower or ''} with other weights"

    def describe(self) -> str:
        """The recipe on one line: what is known, then what is not."""
        content = self.to_json()
        known = [f"{name} {_in_words(value)}" for name, value in content.items() if value != UNKNOWN]
        known = [text for text in known if not text.startswith("tower_sha256")]
        unknown = ", ".join(name for name in self.unknown if name != "tower_sha256")
        if not known:
            return UNKNOWN
        return ", ".join(known) + (f" ({UNKNOWN}: {unknown})" if unknown else "")

    def to_json(self) -> dict[str, Any]:
        """The recipe as an object for JSON, in which ``"unknown"`` stands for what is unknown."""
        return {
            name: UNKNOWN if value is None else list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: Any) -> "FeatureRecipe":
        """Read what ``to_json`` returned, or a user wrote: a property that is left out is unknown.

        Raises:
            ValueError: it is not a recipe; the message says which property is wrong, and what is expected.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(content, Mapping):
            raise ValueError(f"a {type(content).__name__}, expected an object with {', '.join(names)}")
        others = sorted(str(name)[:60] for name in content.keys() - set(names))
        if others:
            raise ValueError(f"{others[0]!r} is no property of a feature recipe, expected {', '.join(names)}")
        values = {name: content.get(name) for name in names}
        try:
            return build(cls, {name: None if value == UNKNOWN else value for name, value in values.items()})
        except ValueError as problem:
            raise ValueError(str(problem).replace(" | None", f" or {UNKNOWN}")) from None


UNKNOWN_RECIPE: Final = FeatureRecipe()
"""Of a checkpoint that does not say how its features were made."""
CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION: Final = (0.26862954, 0.26130258, 0.27577711)


def clip_recipe(
    tower: str, *, snippet_s: float, tower_sha256: str | None = None, image_size: int = 224, frames: int = 1
) -> FeatureRecipe:
    """The recipe of features from a CLIP with its own preprocessing, not normalised.

    Args:
        tower: Hugging Face id, or a name.
        snippet_s: seconds from a row to the next.
        tower_sha256: digest of the tower's weights.
        image_size: pixels; 224 for B/32, B/16 and L/14.
        frames: frames a row.
    """
    return FeatureRecipe(
        tower=tower,
        tower_sha256=tower_sha256,
        image_size=image_size,
        interpolation="bicubic",
        resize="crop",
        mean=CLIP_MEAN,
        deviation=CLIP_DEVIATION,
        channel_order="rgb",
        snippet_s=snippet_s,
        frames=frames,
        normalised=False,
    )


def read_recipe(path: Path) -> FeatureRecipe:
    """Read a feature recipe from a JSON file, see ``FeatureRecipe.from_json``.

    Raises:
        RecipeError: the file cannot be read, is not JSON, or is not a recipe.
    """
    try:
        return FeatureRecipe.from_json(read_json(path, limit=LARGEST_FILE, error=RecipeError))
    except ValueError as problem:
        raise RecipeError(f"{path}: {problem}") from None


def _in_words(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(f"{number:.3g}" for number in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _shown(value: Any) -> str:
    return repr(value if not isinstance(value, str) else value[:60])[:80]
