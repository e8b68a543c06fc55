"""How a video of some number of snippets is looked at: as a whole or through windows, resampled to what length."""

from typing import Literal

from stale_runtime.bundle import layout
from stale_runtime.decoding.decoders import DEFAULT_DECODER
from stale_runtime.inference.windows import LARGEST

WHOLE_LENGTHS = 2
"""Videos of at most so many times the trained T are looked at as a whole, if windows are ``auto``."""


class Lengths:
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
        self._whole_only = window == "off" or isinstance(length, int) or decoder != DEFAULT_DECODER

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

    def window_for(self, snippets: int) -> int | None:
        """See ``Localizer.window_for``."""
        longest_whole = self.longest_whole
        return None if longest_whole is None or snippets <= longest_whole else self.largest_window

    @property
    def largest_window(self) -> int:
        """Snippets of the largest windows."""
        return self.window if isinstance(self.window, int) else LARGEST

    @property
    def window_length(self) -> int:
        """T that windows are resampled to."""
        return self._trained if self.length == "auto" else self.length
