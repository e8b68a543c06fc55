"""Videos in several containers, changed where it hurts: sizes, counts, times, offsets, frames."""

import struct
from pathlib import Path
from random import Random
from unittest.mock import patch

from stale_runtime.errors import VideoError
from stale_runtime.inputs.recipe import clip_recipe
from stale_runtime.video import video_reader
from tests.fuzz.decoder_forks import fork_decoder
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.target import Target

SIDE = 16
RECIPE = clip_recipe("tower", snippet_s=0.1, image_size=SIDE)
_MOST_FRAMES = 40
"""Frames that are read of an input, which may claim to be long."""
_CODECS = {"mp4": "libx264", "mkv": "libx264", "webm": "vp9", "avi": "mpeg4", "ts": "libx264", "mov": "mjpeg"}
_NAMES: tuple[bytes, ...] = (
    *(b"moov", b"mvhd", b"tkhd", b"mdhd", b"stsd", b"avcC", b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"stss"),
    *(b"elst", b"dref", b"mdat", b"avih", b"strh", b"strf", b"movi", b"idx1", b"\x1aE\xdf\xa3", b"\x15I\xa9f"),
    *(b"\x16T\xaek", b"\x1fC\xb6u", b"\x1cS\xbbk", b"\xa3", b"\xe0", b"\xb0", b"\xba", b"\x2a\xd7\xb1", b"G"),
)
"""What stands before numbers in mp4, mov, avi, mkv, webm and ts."""
_NUMBERS = (0, 1, 2, 255, 65535, 65536, 100_000, 2**31 - 1, 2**31, 2**32 - 1)


def video_target(folder: Path) -> Target:
    """``read_video``, with the real decoder in a process that is forked."""
    from tests.runtime.video.clips import scene, write_clip

    pictures = [scene(64, 48, n) for n in range(12)]
    seeds = [
        write_clip(folder / f"seed.{name}", pictures, codec=codec, pixel_format=_pixel_format(codec)).read_bytes()
        for name, codec in _CODECS.items()
    ]
    path = folder / "video.mp4"

    def run(data: bytes) -> object:
        path.write_bytes(data)
        with patch.object(video_reader, "_start", fork_decoder):
            return read_some(path)

    return Target(seeds=(*seeds, seeds[0][: len(seeds[0]) // 2]), run=run, mutate=mutate_video)


def read_some(path: Path) -> int:
    """Read the first frames of a video; return how many.

    Raises:
        VideoError: with one line that is no bug of the decoder.
    """
    problem: VideoError
    try:
        return _count_frames(path)
    except VideoError as refused:
        problem = refused
    assert str(problem).isprintable()
    assert "failed with exit code" not in str(problem), problem
    raise problem


def _count_frames(path: Path) -> int:
    found = 0
    with video_reader.read_video(path, RECIPE, batch_rows=4) as video:
        for batch in video:
            assert batch.shape[1:] == (SIDE, SIDE, 3)
            found += len(batch)
            if found >= _MOST_FRAMES:
                return found
        assert found == video.rows
    return found


def mutate_video(data: bytes, dice: Random) -> bytes:
    """Change a number after a name, cut off the end, move a piece, or change bytes anywhere."""
    changed, kind = bytearray(data), dice.randrange(10)
    if kind < 5:
        place = _find_number(changed, dice)
        number = dice.choice((*_NUMBERS, len(data), dice.getrandbits(32)))
        size = dice.choice((1, 2, 4, 8))
        order = dice.choice(("big", "little"))
        written = (number % 256**size).to_bytes(size, "big" if order == "big" else "little")
        changed[place : place + size] = dice.choice((written, written, b"\x01" + b"\xff" * 7, struct.pack(">q", -1)))
    elif kind == 5:
        del changed[dice.randrange(len(changed) + 1) :]
    elif kind == 6:
        for _ in range(dice.choice((1, 5, 50))):
            if changed:
                changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    elif kind == 7:
        start, size = dice.randrange(len(changed) + 1), dice.choice((8, 100, 2000))
        piece = changed[start : start + size]
        del changed[start : start + size]
        place = dice.randrange(len(changed) + 1)
        changed[place:place] = piece
    else:
        return mutate_bytes(data, dice)
    return bytes(changed)


def _find_number(data: bytearray, dice: Random) -> int:
    """A place shortly after a name, or anywhere."""
    name = dice.choice(_NAMES)
    start = data.find(name, dice.randrange(len(data) + 1))
    start = data.find(name) if start < 0 else start
    if start < 0:
        return dice.randrange(len(data) + 1)
    return min(len(data), max(0, start + len(name) + dice.randrange(-8, 40)))


def _pixel_format(codec: str) -> str:
    return "yuvj420p" if codec == "mjpeg" else "yuv420p"
