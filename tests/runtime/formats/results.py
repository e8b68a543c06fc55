"""Results of runs, as formats get them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.formats.run_result import RunResult

HOSTILE = (
    "tab\there",
    "line\nbreak\r\nand\u2028more",
    "00:00:01.000 --> 00:00:02.000",
    "]]> <!-- </b> & <b>bold</b> <![CDATA[",
    r"{\an8}\N{y:i}",
    "\u202eright to left\u202c \u05d0\u05d1 \u200f",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3c3",
    "\"quoted\", 'single', =1+1; a|b",
    "nul \x00 bell \x07 escape \x1b[31m \ufffe \uffff \ud800",
    " \n ",
    "\n\n5\n00:00:00,000 --> 00:00:09,000\ninjected",
    "long " * 2000,
)
"""Names that break a format which does not take care: 10 kB, markup, line ends, characters that no file may have."""


def video_of(*rows: Sequence[Any], name: str = "holiday", duration_s: float | None = 100.0) -> VideoDetections:
    """A video with detections of (label, start, end, score)."""
    detections = sorted((Detection(*row) for row in rows), key=lambda row: -row.score)
    return VideoDetections(video=name, duration_s=duration_s, detections=tuple(detections))


def result_of(*videos: VideoDetections, suffix: str = ".mp4", **fields: Any) -> RunResult:
    """What a run found in these videos, each in a file of its name."""
    paths = tuple(Path(f"{video.video}{suffix}") for video in videos)
    return RunResult(videos=videos, paths=paths, version="stale-edge 1.2", **fields)


def hostile_video() -> VideoDetections:
    """A video with each of the hostile names, one after the other, for a second."""
    return video_of(*((name, n, n + 1.0, 0.9 - n / 100) for n, name in enumerate(HOSTILE)))
