"""Subtitles that show the labels of actions while they last."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from stale_runtime.formats.run_result import RunResult
from stale_runtime.formats.times import clock_time_of_ms
from stale_runtime.system.text import plain_line

if TYPE_CHECKING:
    from stale_runtime.formats.cues import Cue

_LOOKALIKES = str.maketrans("<>{}\\", "\u2039\u203a\u2774\u2775\uff3c")
r"""For SubRip, which has no way to write ``<b>`` or ``{\an8}`` as text: players would take them for markup."""
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def subrip(result: RunResult) -> str:
    """The SubRip file (SRT) of one video; characters that players take for markup are replaced by similar ones."""
    from stale_runtime.formats.cues import make_cues  # only subtitles need it

    cues = make_cues(result.shown[0])
    return "\n".join(
        f"{number}\n{clock_time_of_ms(cue.start_ms, ',')} --> {clock_time_of_ms(cue.end_ms, ',')}\n{lines}"
        for number, (cue, lines) in enumerate(_with_lines(cues, lambda text: text.translate(_LOOKALIKES)), start=1)
    )


def web_vtt(result: RunResult) -> str:
    """The WebVTT file of one video.

    Source: WebVTT: The Web Video Text Tracks Format, W3C.
    """
    from stale_runtime.formats.cues import make_cues  # only subtitles need it

    cues = make_cues(result.shown[0])
    return "WEBVTT\n" + "".join(
        f"\n{clock_time_of_ms(cue.start_ms)} --> {clock_time_of_ms(cue.end_ms)}\n{lines}"
        for cue, lines in _with_lines(cues, lambda text: text.translate(_ENTITIES))
    )


def _with_lines(cues: "list[Cue]", escape: Callable[[str], str]) -> "Iterator[tuple[Cue, str]]":
    """Each cue, and its text: a line for each label, with its score."""
    for cue in cues:
        yield cue, "".join(f"{escape(plain_line(label))} ({score:.2f})\n" for label, score in cue.labels)
