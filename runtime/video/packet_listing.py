"""Opening an untrusted video and listing its packets. Only the decoding process imports this."""

from array import array
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from stale_runtime.video.decoding_plan import PacketTable
from stale_runtime.video.video_properties import (
    LONGEST_VIDEO_S,
    MOST_ELONGATED,
    MOST_PIXELS,
    MOST_VIDEO_FRAMES,
    SPARSEST_FRAMES_S,
)

CONTAINERS: Final = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg")
"""FFmpeg's demuxers that are used. None of them opens another file; playlists and image sequences do."""
CODECS: Final = (
    *("h264", "hevc", "libdav1d", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores", "dnxhd"),
    *("h263", "flv", "vp6", "vp6f", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1", "theora", "dvvideo", "ffv1"),
)
"""FFmpeg's decoders that are used."""
_EXPECTED = "expected a complete mp4, mov, mkv, webm, avi, ts, mpg, flv, wmv or ogv file"
_CONVERT = "convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
_REMUX = "repair it: ffmpeg -i IN -c copy OUT.mkv"
_BACKWARD_S = 1.0
_LAST_FRAME_S = 10.0
"""At most so long is the last frame shown: its duration is a claim that nothing else confirms."""
_USUAL_FRAME_S = 0.04


class VideoProblem(Exception):  # noqa: N818 - the parent makes the error of it
    """Why a video cannot be read: what was found, what was expected, and the remedy, without its name."""


def open_stream(file: BinaryIO, threads: int) -> tuple[InputContainer, VideoStream]:
    """Open the file from its beginning, and find the video in it; only this stream is read.

    Raises:
        VideoProblem: it is no video, or its frames are too large.
    """
    file.seek(0)
    options = {
        "format_whitelist": ",".join(CONTAINERS),
        "codec_whitelist": ",".join(CODECS),
        "protocol_whitelist": "file",
    }
    try:
        container = av.open(file, "r", container_options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as problem:
        if isinstance(problem, MemoryError):
            raise
        raise VideoProblem(f"cannot be opened as a video ({_text(problem)}); {_EXPECTED}") from problem
    videos = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    best = container.streams.best("video")
    stream = best if best in videos else next(iter(videos), None)
    if not isinstance(stream, VideoStream):
        raise VideoProblem(f"has no video, only {_kinds(container)}; give a file with pictures that move")
    for other in container.streams:
        other.discard = av.stream.Discard.default if other is stream else av.stream.Discard.all
    _check_decoder(stream)
    stream.codec_context.thread_count = threads
    stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
    return container, stream


def _check_decoder(stream: VideoStream) -> None:
    context = stream.codec_context
    if context is None:
        raise VideoProblem(f"nothing here decodes its video; {_CONVERT}")
    if context.codec.name not in CODECS:
        raise VideoProblem(f"its video is encoded as {context.codec.name}, which is not decoded here; {_CONVERT}")
    width, height = context.width, context.height
    if width < 1 or height < 1:
        raise VideoProblem(f"its frames have no size, or an impossible one; {_EXPECTED}")
    if width * height > MOST_PIXELS:
        raise VideoProblem(
            f"frames of {width} x {height} pixels, expected at most {MOST_PIXELS:,}; make them smaller: "
            "ffmpeg -i IN -vf scale=1280:-2 OUT.mp4"
        )
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise VideoProblem(f"frames of {width} x {height} pixels, expected sides at most {MOST_ELONGATED} times apart")


def read_packets(container: InputContainer, stream: VideoStream) -> "Iterator[av.Packet[VideoStream]]":
    """The packets of a stream that are not empty, up to the end of the file or the first damage that ends it.

    Raises:
        av.error.FFmpegError: not even the first one can be read.
    """
    found = False
    while True:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    found = True
                    yield packet
            return
        except IndexError:  # PyAV knows no streams that begin later, such as a broadcast's, and fails at their packets
            continue
        except av.error.FFmpegError as problem:
            if isinstance(problem, MemoryError) or not found:
                raise
            return


def list_packets(container: InputContainer, stream: VideoStream, stay_alive: Callable[[], None]) -> PacketTable:
    """List the packets that are really there, whatever the header claims.

    Args:
        container: an open video; it is read to its end.
        stream: its video.
        stay_alive: called now and then.

    Raises:
        VideoProblem: there are none, too many, or their times make no sense.
    """
    times, keyframes, hidden = array("q"), bytearray(), bytearray()
    time_base = stream.time_base
    if not time_base:
        raise VideoProblem(f"its frames have no times; {_REMUX}")
    exact, last, end, previous, latest = True, None, None, 0, None
    for packet in read_packets(container, stream):
        if len(times) == MOST_VIDEO_FRAMES:
            raise VideoProblem(f"more than {MOST_VIDEO_FRAMES:,} frames; cut it into parts")
        stated = packet.pts if packet.pts is not None else packet.dts
        exact = exact and packet.pts is not None
        time = stated if stated is not None else previous + (packet.duration or 1)
        latest = _check_order(packet.dts, latest, float(time_base))
        times.append(time)
        keyframes.append(packet.is_keyframe)
        hidden.append(packet.is_discard)
        if not packet.is_discard and (last is None or time >= last):  # mp4 states durations in the order of decoding
            last, end = time, time + min(packet.duration or 0, round(_LAST_FRAME_S / time_base))
        previous = time
        if len(times) % 256 == 0:
            stay_alive()
    if end is None:
        raise VideoProblem(f"has no frames; {_EXPECTED}")
    exact = exact and len(set(times)) == len(times)
    return PacketTable(times=times, keyframes=keyframes, hidden=hidden, end=end, exact=exact)


def _check_order(decoded: int | None, latest: int | None, time_base: float) -> int | None:
    """The latest time of decoding so far, which must not jump back."""
    if decoded is None or latest is None:
        return decoded if latest is None else latest
    if (latest - decoded) * time_base > _BACKWARD_S:
        raise VideoProblem(
            f"its time jumps back from {latest * time_base:.1f} to {decoded * time_base:.1f} s; {_REMUX}"
        )
    return max(decoded, latest)


def find_duration(table: PacketTable, shown: list[int], stream: VideoStream) -> float:
    """How many seconds the frames that are there last.

    Raises:
        VideoProblem: too long, or hardly any frames for that time.
    """
    time_base = float(stream.time_base or 0)
    duration = (table.end - shown[0]) * time_base
    if table.end == shown[-1]:  # the last frame has no duration of its own
        usual = duration / (len(shown) - 1) if len(shown) > 1 else 1 / float(stream.average_rate or 1 / _USUAL_FRAME_S)
        duration += min(usual, _LAST_FRAME_S)
    if not 0 < duration <= LONGEST_VIDEO_S:
        raise VideoProblem(f"{duration:,.1f} s long, expected at most {LONGEST_VIDEO_S:,}; cut it into parts")
    if duration / len(shown) > SPARSEST_FRAMES_S:
        raise VideoProblem(
            f"only {len(shown):,} frames in {duration:,.1f} s, expected one every {SPARSEST_FRAMES_S} s or more often; "
            "is it damaged?"
        )
    return duration


def declared_duration(container: InputContainer, stream: VideoStream) -> float | None:
    """The seconds that the header claims; of a file that also has sound, only if it is said of the video alone."""
    if stream.duration and stream.time_base:
        return float(max(stream.duration, 0) * stream.time_base)
    alone = len(container.streams) == 1
    return max(container.duration, 0) / 1e6 if container.duration and alone else None


def _kinds(container: InputContainer) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _text(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or str(problem)
