"""What is fuzzed: a reader, inputs to start from, and a way to change them so that they get past its first checks."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.fuzz.mutations import mutate_bytes


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader of untrusted bytes."""

    seeds: tuple[bytes, ...]
    """Inputs that the reader accepts, and some that it refuses for one small fault."""
    run: Callable[[bytes], object]
    """Calls the reader's public function: returns a result (None counts as refused) or raises one of our errors.
    Anything else is a finding."""
    mutate: Callable[[bytes, Random], bytes] = mutate_bytes
    """Makes a similar input from a given one."""


class Choices:
    """Reads decisions from bytes, one after the other; when they run out, it reads zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """The number of bytes that have not been used."""
        return max(0, len(self._data) - self._at)

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit - 1``, read from two bytes."""
        return int.from_bytes(self.piece(2), "little") % limit

    def piece(self, size: int) -> bytes:
        """The next ``size`` bytes, or fewer at the end."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece
