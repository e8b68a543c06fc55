"""Which packets of a video have to be decoded to see the frames that are wanted."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

RELIABLE_REFERENCES: Final = frozenset({"h264", "mpeg4", "mpeg2video"})
"""Decoders for which a frame marked as no reference never is one. HEVC's marks hold only within a temporal layer."""
RELIABLE_KEYFRAMES: Final = frozenset({"mov", "matroska"})
"""Containers whose keyframes are frames that decoding can start from; a transport stream's may be gradual refreshes."""


class Action(IntEnum):
    """What becomes of a packet."""

    DROP = 0
    """Not decoded; the next one that is decoded begins a new sequence."""
    REFERENCE = 1
    """Decoded if other frames refer to it."""
    SHOW = 2
    """Decoded."""


@dataclass(frozen=True, kw_only=True)
class PacketTable:
    """All packets of a video's stream, in the order in which they are stored. Times are in units of the time base."""

    times: "array[int]"
    """When each frame is shown."""
    keyframes: bytearray
    """1 for a keyframe."""
    hidden: bytearray
    """1 for a frame that is only decoded, because an edit list leaves it out."""
    end: int
    """When the last frame stops being shown."""
    exact: bool
    """Whether the times are all stated and all different, so that frames can be told apart by them."""

    @property
    def shown(self) -> list[int]:
        """Sorted times of the frames that are shown."""
        return sorted(time for time, hidden in zip(self.times, self.hidden, strict=True) if not hidden)


def choose_frames(shown: Sequence[int], wanted: Iterable[float]) -> "array[int]":
    """The frame that is on the screen at each time: the last one that is not later, or the first one.

    Args:
        shown: sorted times of frames.
        wanted: times, in the same units.

    Returns:
        The time of the frame chosen for each wanted one.
    """
    return array("q", (shown[max(bisect_right(shown, time) - 1, 0)] for time in wanted))


def plan_decoding(table: PacketTable, chosen: Iterable[int], *, keyframes_begin: bool) -> bytearray:
    """An ``Action`` for each packet, such that the chosen frames are decoded exactly as if all were.

    Args:
        table: the packets.
        chosen: times of the frames that are needed.
        keyframes_begin: whether decoding may start at any keyframe. Frames that are stored after a keyframe but shown
            before it refer to what comes before it, too.

    Returns:
        As many bytes as there are packets.
    """
    packets = len(table.times)
    if not table.exact:
        return bytearray([Action.SHOW]) * packets
    wanted = set(chosen)
    plan = bytearray([Action.REFERENCE]) * packets
    last, group_ends, whole = -1, packets, False
    for index in range(packets - 1, -1, -1):  # from the end, group of pictures by group of pictures
        if table.times[index] in wanted:
            plan[index] = Action.SHOW
            last = max(last, index)
        if index == 0 or (keyframes_begin and table.keyframes[index]):
            needed = group_ends if whole else last + 1
            for dropped in range(max(needed, index), group_ends):
                plan[dropped] = Action.DROP
            leading = range(index + 1, needed)
            whole = any(plan[i] == Action.SHOW and table.times[i] < table.times[index] for i in leading)
            last, group_ends = -1, index
    return plan
