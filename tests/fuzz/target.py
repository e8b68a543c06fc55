"""What is fuzzed: a reader, inputs to start from, and a way to change them that gets past its first check."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.fuzz.mutations import mutate_bytes


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader that strangers' bytes reach."""

    seeds: tuple[bytes, ...]
    """Inputs that it takes, and some that it only just refuses."""
    run: Callable[[bytes], object]
    """Reads an input through the reader's public entry: returns a result (None counts as refused) or raises one of our
    errors; anything else that it does is a finding."""
    mutate: Callable[[bytes, Random], bytes] = mutate_bytes
    """Another input, not far from the one given."""


class Choices:
    """Bytes as a row of decisions; they never run out, since zeros follow them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that have not been used."""
        return max(0, len(self._data) - self._at)

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit - 1``, of two bytes."""
        return int.from_bytes(self.piece(2), "little") % limit

    def piece(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece
