"""Results of more videos than fit into memory, put into order by their ids."""

from array import array
from collections.abc import Iterator, Set
from typing import BinaryIO, Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal[0, 1, 2]
SECONDS_KIND: Final = 0
"""A video whose segments are in seconds."""
FRACTION_KIND: Final = 1
"""A video whose segments are fractions of it."""
FAILED_KIND: Final = 2
"""A video that failed."""


class Stored(NamedTuple):
    """What is kept of a video."""

    video: str
    kind: int
    piece: bytes


class ResultStore:
    """What is written of each video, in a file; only ids and places are in memory, about 250 bytes a video."""

    def __init__(self, file: BinaryIO) -> None:
        """Args: file: an empty one that can be read and written; the caller deletes it."""
        self._file = file
        self._numbers: dict[str, int] = {}
        self._starts = array("q", [0])
        self._kinds = array("b")
        self._sources = array("q")

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def videos(self) -> Set[str]:
        """The ids of all videos."""
        return self._numbers.keys()

    def source_of(self, video: str) -> int | None:
        """Where a video came from; None if it is not there."""
        number = self._numbers.get(video)
        return None if number is None else self._sources[number]

    def has_kind(self, kind: Kind) -> bool:
        """Whether some video is of a kind."""
        return kind in self._kinds

    def add(self, video: str, kind: Kind, piece: bytes, *, source: int) -> None:
        """Keep a video that is not there yet.

        Args:
            video: its id.
            kind: what the piece is.
            piece: what is written of it.
            source: where it came from.

        Raises:
            OSError: the file cannot be written.
        """
        self._numbers[video] = len(self._kinds)
        self._kinds.append(kind)
        self._sources.append(source)
        self._file.write(piece)
        self._starts.append(self._starts[-1] + len(piece))

    def get(self, video: str) -> Stored:
        """Read a video that is there."""
        number = self._numbers[video]
        start, after = self._starts[number], self._starts[number + 1]
        self._file.seek(start)
        piece = self._file.read(after - start)
        self._file.seek(self._starts[-1])
        return Stored(video, self._kinds[number], piece)

    def in_order(self) -> Iterator[Stored]:
        """Read all videos in the order of their ids."""
        return map(self.get, sorted(self._numbers))
