"""From a timeline to a video file: frames are drawn one by one, and encoded as H.264."""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av

from stale_model.demo.drawing.camera import Camera, Frame
from stale_model.demo.drawing.canvas import WIDTH
from stale_model.demo.drawing.scene import Scene
from stale_model.demo.shots import plan_shots
from stale_model.demo.timelines import DemoVideo, generator_for

FRAMES_PER_SECOND: Final = 6
HEIGHT: Final = 120
"""Pixels of a frame; its width is 160."""
_FINER = 2
_NOISE = 3
_OPTIONS = {"crf": "29", "preset": "veryfast", "x264-params": "mbtree=0"}
"""With its macroblock tree, x264 encodes one film in thirty otherwise than before."""


def draw_frames(
    video: DemoVideo, seed: int, *, height: int = HEIGHT, frames_per_second: int = FRAMES_PER_SECOND
) -> Iterator[Frame]:
    """Draw the frames of a video. A frame shows what happens in the middle of the time that it is on the screen.

    Args:
        video: its timeline.
        seed: seed of the data set.
        height: pixels; a multiple of 12.
        frames_per_second: of the video.
    """
    rng = generator_for(video.name, seed, _NOISE)
    cameras: dict[Scene, Camera] = {}
    shots = plan_shots(video, seed)
    for number in range(round(video.duration_s * frames_per_second)):
        time_s = (number + 0.5) / frames_per_second
        shot = next(shot for shot in shots if time_s < shot.end_s)
        if shot.scene not in cameras:
            cameras[shot.scene] = Camera(shot.scene, height=height, finer=_FINER)
        yield cameras[shot.scene].film(shot.doing, time_s=time_s, since_s=time_s - shot.start_s, rng=rng)


def write_video(
    path: Path,
    video: DemoVideo,
    seed: int,
    *,
    height: int = HEIGHT,
    frames_per_second: int = FRAMES_PER_SECOND,
) -> None:
    """Draw a video and write it as MP4.

    Args:
        path: of the new file.
        video: its timeline.
        seed: seed of the data set.
        height: pixels; a multiple of 12.
        frames_per_second: of the video.

    Raises:
        OSError: the file cannot be written.
    """
    frames = draw_frames(video, seed, height=height, frames_per_second=frames_per_second)
    path.write_bytes(_encode(frames, (round(WIDTH * height), height), frames_per_second))


def _encode(frames: Iterable[Frame], size: tuple[int, int], frames_per_second: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=Fraction(frames_per_second), options=_OPTIONS)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # how many there are changes the bytes
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()
