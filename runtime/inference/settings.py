"""The options of a localizer."""

import os
from dataclasses import dataclass
from typing import Literal

from stale_runtime.bundle import layout
from stale_runtime.decoding.decoders import DECODERS
from stale_runtime.decoding.standard_decoder import CLASSES
from stale_runtime.inference import windows
from stale_runtime.inference.backends import LOCALIZER_BACKENDS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a localizer."""

    backend: str | None = None
    """A key of ``LOCALIZER_BACKENDS``; None for the first of ``ort-fast`` and ``ort-int8`` whose mAP the bundle
    proves, else ``ort-fp32``."""
    length: int | Literal["auto"] | None = None
    """T that features are resampled to, in snippets; None for the trained T; ``auto`` for the trained T, or twice that
    for videos that are looked at as a whole and have more snippets than twice the trained T."""
    threads: int = 1
    """Threads an operator may use; never more than the CPUs that this process may run on."""
    window: int | Literal["auto", "off"] = "auto"
    """Snippets of the largest windows that a video is looked at through; ``off`` to look at each video as a whole,
    ``auto`` for windows where they find more, see ``Localizer.window_for``."""
    most_detections: int | None = None
    """Most detections of a video, the best ones; None for 100 of a video that is looked at as a whole, and for a number
    that grows with the video of one that is looked at through windows."""
    classes: int = CLASSES
    """Classes that are considered for a video, or for each window of a long one. More take more time."""
    decoder: str | None = None
    """One of ``DECODERS``; None for the bundle's own."""
    vision_precision: Literal["int8", "fp32"] | None = None
    """Which of the bundle's vision towers computes the features of videos; None for the bundle's default."""
    timeout_s: float | None = None
    """Most seconds for a video, for encoding prompts, or for loading the graph; None for no limit."""
    cache_folder: str | os.PathLike[str] | None = None
    """Where encoded prompts are kept; None for ``$STALE_CACHE``, then ``~/.cache/stale-edge``."""
    cache: bool = True
    """Whether encoded prompts are kept on disk."""

    def __post_init__(self) -> None:
        if self.backend is not None and self.backend not in LOCALIZER_BACKENDS:
            raise ValueError(f"backend {self.backend!r}, expected one of {', '.join(LOCALIZER_BACKENDS)}")
        usable = isinstance(self.length, int) and layout.SHORTEST <= self.length <= layout.LONGEST
        if self.length not in (None, "auto") and not usable:
            raise ValueError(
                f"length {self.length!r}, expected {layout.SHORTEST} to {layout.LONGEST} snippets, or auto"
            )
        usable = isinstance(self.window, int) and windows.SHORTEST <= self.window <= windows.LONGEST
        if self.window not in ("auto", "off") and not usable:
            raise ValueError(
                f"window {self.window!r}, expected {windows.SHORTEST} to {windows.LONGEST} snippets, auto or off"
            )
        for name in ("threads", "classes", "most_detections"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name} {value}, expected at least 1")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ValueError(f"timeout_s {self.timeout_s}, expected more than 0 seconds")
        if self.decoder is not None and self.decoder not in DECODERS:
            raise ValueError(f"decoder {self.decoder!r}, expected one of {', '.join(DECODERS)}")
        if self.decoder is not None:
            self.check_decoder(self.decoder)

    def check_decoder(self, decoder: str) -> None:
        """Make sure that the options are some that a decoder has.

        Args:
            decoder: one of ``DECODERS``.

        Raises:
            ValueError: one is not.
        """
        if decoder != "upstream":
            return
        remedy = "leave it out, or take decoder standard"
        if isinstance(self.window, int):
            raise ValueError(f"window {self.window} with decoder upstream, which looks at whole videos only; {remedy}")
        if self.classes != CLASSES:
            raise ValueError(f"classes {self.classes} with decoder upstream, which has a number of its own; {remedy}")
        if self.most_detections is not None:
            raise ValueError(
                f"most_detections {self.most_detections} with decoder upstream, which has a number of its own; {remedy}"
            )
