"""Shards: the parts into which the videos of a run are divided, so that each machine takes one."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

MOST_SHARDS: Final = 100_000
"""Slurm and Kubernetes allow fewer tasks in one job."""
_TEXT = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several parts. A video's id says which of them it belongs to."""

    index: int
    """From 0 to ``count - 1``."""
    count: int
    """How many shards there are, at most ``MOST_SHARDS``."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_SHARDS:
            raise ValueError(f"{self.count} shards, expected 1 to {MOST_SHARDS:,}")
        if not 0 <= self.index < self.count:
            last = self.count - 1
            raise ValueError(f"shard {self.index} of {self.count}, but they count from 0: expected 0 to {last}")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read a shard that is written as ``I/N``, such as ``0/64`` for the first of 64.

        Raises:
            ValueError: it is not that.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError("expected I/N, such as 0/64 for the first of 64 shards and 63/64 for the last")
        return cls(index=int(match[1]), count=int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, video: str) -> bool:
        """Whether a video, given its id, belongs to this shard."""
        return shard_index(video, self.count) == self.index


class Listing(NamedTuple):
    """All videos of a run, before they were divided into shards."""

    videos: int
    """How many they are."""
    sha256: str
    """Of their ids in alphabetical order, each with a zero byte after it."""

    @classmethod
    def of(cls, videos: Iterable[str]) -> "Listing":
        """The listing of these ids, in whatever order they are."""
        in_order, digest = sorted(videos), hashlib.sha256()
        for video in in_order:
            digest.update(video.encode() + b"\0")
        return cls(len(in_order), digest.hexdigest())


def shard_index(video: str, count: int) -> int:
    """The shard that a video belongs to. It depends on nothing but these two, on every machine and in every version.

    Args:
        video: its id.
        count: how many shards there are.

    Returns:
        From 0 to ``count - 1``.
    """
    return int.from_bytes(hashlib.sha256(video.encode()).digest()[:8], "big") % count
