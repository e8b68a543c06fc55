"""Small videos, made when a test needs them."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

av = pytest.importorskip("av", reason="needs the extra: pip install '.[video]'")
pytest.importorskip("PIL", reason="needs the extra: pip install '.[video]'")

MATRICES = {
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}
"""Display matrices a, b, c, d for pictures that are to be turned clockwise."""
BITS = 8


def scene(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture (height, width, 3) with soft shapes and some texture, as a camera might see it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 16 + 2, width // 16 + 2, 3))
    smooth = coarse.repeat(16, 0).repeat(16, 1)[:height, :width]
    waves = 40 * np.sin(np.add.outer(np.arange(height) / 5, np.arange(width) / 7))[..., None]
    picture: NDArray[np.uint8] = np.clip(smooth * 0.7 + waves + 40, 0, 255).astype(np.uint8)
    return picture


def numbered(number: int, width: int = 128, height: int = 64) -> NDArray[np.uint8]:
    """A picture that says its number in eight black or white stripes, the highest bit on the left."""
    bits = [(number >> (BITS - 1 - bit)) & 1 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, width // BITS)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def read_number(picture: NDArray[np.uint8]) -> int:
    """The number that a picture (S, S, 3), squashed or whole, says."""
    _, S, _ = picture.shape
    centres = (np.arange(BITS) + 0.5) * S / BITS
    bits = picture[:, centres.astype(int)].mean((0, 2)) > 127
    return int(sum(int(bit) << (BITS - 1 - place) for place, bit in enumerate(bits)))


def write_clip(
    path: Path,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    codec: str = "libx264",
    times: Sequence[float] | None = None,
    rate: int = 25,
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    container: str | None = None,
) -> Path:
    """Encode pictures (H, W, 3), shown at some times in seconds or at a constant rate."""
    unit = Fraction(1, 1000) if times is not None else Fraction(1, rate)
    height, width, _ = pictures[0].shape
    with av.open(str(path), "w", format=container, options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = unit
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.thread_count = 1  # so that the bytes are the same each time
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = number if times is None else round(times[number] * 1000)
            frame.time_base = unit
            if times is not None:
                frame.duration = round(1000 * (times[number + 1] - times[number])) if number + 1 < len(times) else 40
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.codec_context.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for number in range(16):
            frame.pts = 1024 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Change the display matrix in an mp4 file."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    a, b, c, d = (value * 65536 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30)
    path.write_bytes(data)
    return path


def shown_frames(path: Path, pixel_format: str = "rgb24") -> list[NDArray[np.uint8]]:
    """All frames in order, decoded by PyAV itself; not turned."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=pixel_format) for frame in container.decode(video=0)]
