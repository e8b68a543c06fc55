"""Messages from the process that decodes a video: a kind, a length, and as many bytes."""

import os
import struct
import time
from enum import Enum
from typing import Final

HEADER: Final = struct.Struct("<cI")
LARGEST_TEXT: Final = 65_536
"""Bytes of JSON in a message."""
_BUSY_S = 0.5


class Kind(Enum):
    """Kinds of messages."""

    PROPERTIES = b"P"
    """JSON: the fields of VideoProperties."""
    FRAME = b"F"
    """The pixels of a preprocessed frame, row by row."""
    BUSY = b"B"
    """Nothing, so that slow work can be told from none."""
    DONE = b"D"
    """JSON: what was damaged."""
    PROBLEM = b"E"
    """UTF-8: why the video cannot be read, without its name."""


class Sender:
    """The end at which the decoding process writes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._last = time.monotonic()

    def send(self, kind: Kind, content: bytes = b"") -> None:
        """Write a message.

        Raises:
            BrokenPipeError: nobody reads it.
        """
        message = memoryview(HEADER.pack(kind.value, len(content)) + content)
        while message:
            message = message[os.write(self._descriptor, message) :]
        self._last = time.monotonic()

    def stay_alive(self) -> None:
        """Say that work goes on, if nothing was said for a while."""
        if time.monotonic() - self._last > _BUSY_S:
            self.send(Kind.BUSY)
