"""How a video of some number of snippets is looked at: as a whole or through windows, resampled to what length."""

from typing import Literal

from stale_runtime.bundle import layout
from stale_runtime.decoding.decoders import DEFAULT_DECODER
from stale_runtime.inference.windows import LARGEST, shows_one_scene
from stale_runtime.segments import FloatArray

WHOLE_LENGTHS = 2
"""Videos of at most so many times the trained T are looked at as a whole, if windows are ``auto``."""


class LengthRules:
    """How a localizer looks at videos; the methods are those of ``Localizer``."""

    def __init__(
        self,
        trained: int,
        *,
        length: int | Literal["auto"] | None,
        window: int | Literal["auto", "off"],
        decoder: str,
    ) -> None:
        """Args: trained: the trained T; the others as for ``Localizer.open``."""
        self._trained = trained
        self.length = length or trained
        """T that features are resampled to, or ``auto``."""
        self.window = window
        self._fixed = isinstance(length, int)
        self._whole_only = window == "off" or self._fixed or decoder != DEFAULT_DECODER

    def length_for(self, snippets: int) -> int:
        """See ``Localizer.length_for``."""
        if self.length != "auto":
            return self.length
        return self._trained if snippets <= 2 * self._trained else min(2 * self._trained, layout.LONGEST)

    @property
    def longest_whole(self) -> int | None:
        """See ``Localizer.longest_whole``."""
        if isinstance(self.window, int):
            return 0
        return None if self._whole_only else WHOLE_LENGTHS * self._trained

    def window_for(self, features: FloatArray) -> int | None:
        """See ``Localizer.window_for``."""
        snippets = len(features)
        if self.is_long(snippets) or (self.may_have_scenes(snippets) and not shows_one_scene(features)):
            return self.largest_window
        return None

    def is_long(self, snippets: int) -> bool:
        """Whether a video is looked at through windows whatever it shows."""
        return self.longest_whole is not None and snippets > self.longest_whole

    def may_have_scenes(self, snippets: int) -> bool:
        """Whether a video that is not long is looked at through windows if it shows several scenes."""
        return self.longest_whole is not None and snippets > self._trained

    @property
    def largest_window(self) -> int:
        """Snippets of the largest windows."""
        return self.window if isinstance(self.window, int) else LARGEST

    @property
    def longest(self) -> int:
        """The largest T of all."""
        return max(self.length_for(layout.LONGEST), self.scene_length)

    @property
    def window_length(self) -> int:
        """T that windows are resampled to."""
        return self._trained if self.length == "auto" else self.length

    @property
    def scene_length(self) -> int:
        """T that long scenes are resampled to."""
        return self.window_length if self._fixed else min(2 * self._trained, layout.LONGEST)
