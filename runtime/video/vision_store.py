"""The vision tower of a bundle, opened when the first video needs it."""

import threading
from typing import TYPE_CHECKING

from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.vision_spec import Precision

if TYPE_CHECKING:
    from stale_runtime.video.vision_encoder import VisionEncoder


class VisionStore:
    """Opens a bundle's vision tower once; threads may share it."""

    def __init__(self, bundle: Bundle, *, precision: Precision | None, threads: int) -> None:
        """Args: precision: of the graph to open; None for the bundle's best; threads: that an operator may use."""
        self._bundle, self._precision, self._threads = bundle, precision, threads
        self._lock = threading.Lock()
        self._encoder: VisionEncoder | None = None

    def open(self) -> "VisionEncoder":
        """The tower, ready to embed.

        Raises:
            BundleError: the bundle has none, or a broken one.
        """
        from stale_runtime.video.vision_encoder import VisionEncoder  # only videos need it

        with self._lock:
            if self._encoder is None:
                self._encoder = VisionEncoder.open(self._bundle, precision=self._precision, threads=self._threads)
            return self._encoder
