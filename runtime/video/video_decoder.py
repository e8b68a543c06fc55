"""The process that decodes a video: ``python -m stale_runtime.video.video_decoder DESCRIPTOR THREADS``.

It gets the video as an open file and writes ``decoder_messages``. FFmpeg reads untrusted bytes here and nowhere else,
after the process has given up all that it does not need for that.
"""

import gc
import json
import os
import signal
import sys
from array import array
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av import VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from stale_runtime.video import packet_listing
from stale_runtime.video.decoder_messages import Kind, Sender
from stale_runtime.video.decoder_sandbox import DECODER_MEMORY, allow_decoding, confine, load_all_modules
from stale_runtime.video.decoding_plan import (
    RELIABLE_KEYFRAMES,
    RELIABLE_REFERENCES,
    Action,
    choose_frames,
    plan_decoding,
)
from stale_runtime.video.frame_resizing import FrameResizer, FrameShape, load_pillow
from stale_runtime.video.packet_listing import VideoProblem
from stale_runtime.video.sample_times import sample_times
from stale_runtime.video.video_properties import VideoProperties

_ROUNDING = 1e-3
"""Part of a unit of time by which a frame may be later than the wanted time, because 0.1 has no exact double."""


class _FrameDecoder:
    """Decodes the packets of a plan, and counts what is damaged."""

    def __init__(self, container: InputContainer, stream: VideoStream, sender: Sender) -> None:
        self._container, self._stream, self._sender = container, stream, sender
        self._context = stream.codec_context
        self.damaged = 0
        """Frames that could not be decoded, or not completely."""

    def decode(self, plan: bytearray) -> Iterator[tuple[int, VideoFrame]]:
        """Decode in the order in which frames are shown.

        Args:
            plan: an ``Action`` for each packet that is not empty.

        Yields:
            The time of a frame in units of the time base, and the frame.
        """
        skips = self._context.codec.name in RELIABLE_REFERENCES
        last = max((index for index, action in enumerate(plan) if action != Action.DROP), default=-1)
        decoding = False
        for index, packet in enumerate(packet_listing.read_packets(self._container, self._stream)):
            if index > last:
                break
            self._sender.stay_alive()
            if plan[index] == Action.DROP:
                if decoding:
                    yield from self._frames(None)
                    self._context.flush_buffers()
                decoding = False
                continue
            decoding = True
            if skips:
                self._context.skip_frame = "NONREF" if plan[index] == Action.REFERENCE else "DEFAULT"
            yield from self._frames(packet)
        yield from self._frames(None)

    def _frames(self, packet: "av.Packet[VideoStream] | None") -> Iterator[tuple[int, VideoFrame]]:
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError as problem:
            if isinstance(problem, MemoryError):
                raise
            self.damaged += not isinstance(problem, av.error.EOFError)
            return
        for frame in frames:
            self.damaged += frame.is_corrupt
            time = frame.pts if frame.pts is not None else frame.dts
            if time is not None:
                yield time, frame


class _VideoDecoder:
    """A video that was opened: what it is, and its frames."""

    def __init__(self, file: BinaryIO, threads: int, sender: Sender) -> None:
        self._file, self._threads, self._sender = file, threads, sender
        container, stream = packet_listing.open_stream(file, threads)
        self._table = packet_listing.list_packets(container, stream, sender.stay_alive)
        self._shown = self._table.shown
        duration = packet_listing.find_duration(self._table, self._shown, stream)
        declared = packet_listing.declared_duration(container, stream)
        codec = stream.codec_context.codec.name
        self._stretch = float(stream.sample_aspect_ratio or 1)
        container.close()  # what it holds, such as attachments, would be held again by the next one
        first = self._first_frame()
        shape = FrameShape.of(first, self._stretch)
        size = (first.height, first.width) if shape.is_transposed else (first.width, first.height)
        self.properties = VideoProperties(
            duration_s=duration,
            declared_s=declared,
            width=size[0],
            height=size[1],
            rotation=shape.rotation,
            frames=len(self._shown),
            codec=codec,
            pixel_format=first.format.name,
        )

    def send_frames(self, request: dict[str, Any]) -> None:
        """Send the frames that a request asks for, in order of time."""
        container, stream = packet_listing.open_stream(self._file, self._threads)
        assert stream.time_base is not None
        times = self._chosen_times(request, stream.time_base)
        allow_decoding(
            frames=len(self._table.times) + len(times), pixels=self.properties.width * self.properties.height
        )
        plan = plan_decoding(
            self._table, times, keyframes_begin=container.format.name.split(",")[0] in RELIABLE_KEYFRAMES
        )
        decoder = _FrameDecoder(container, stream, self._sender)
        resizer = FrameResizer(**request["picture"])
        self._send_chosen(times, decoder.decode(plan), resizer)
        self._sender.send(Kind.DONE, json.dumps({"damaged_frames": decoder.damaged}).encode())

    def _chosen_times(self, request: dict[str, Any], time_base: Fraction) -> "array[int]":
        wanted = sample_times(request["rows"], snippet_s=request["snippet_s"], frames=request["frames"])
        start = self._shown[0] + _ROUNDING
        unit = float(time_base)
        return choose_frames(self._shown, (start + time / unit for time in wanted))

    def _send_chosen(
        self, times: "array[int]", frames: Iterator[tuple[int, VideoFrame]], resizer: FrameResizer
    ) -> None:
        """For each time, send the last frame that is not later, or the first one."""
        sent, shown, shown_time, content = 0, None, 0, b""
        for time, frame in frames:
            time = max(time, shown_time) if shown is not None else time  # the order is right even if a time is not
            while sent < len(times) and times[sent] < time and shown is not None:
                content = content or self._resize(resizer, shown)
                self._sender.send(Kind.FRAME, content)
                sent += 1
            if sent == len(times):
                return
            shown, shown_time, content = frame, time, b""
        if shown is None:
            raise VideoProblem("none of its frames can be decoded; is it damaged?")
        for _ in range(sent, len(times)):
            content = content or self._resize(resizer, shown)
            self._sender.send(Kind.FRAME, content)

    def _resize(self, resizer: FrameResizer, frame: VideoFrame) -> bytes:
        gc.collect()  # a frame and its side data refer to each other, so nothing else frees the one before
        return resizer.resize(frame, FrameShape.of(frame, self._stretch))

    def _first_frame(self) -> VideoFrame:
        """The first frame that can be decoded; it tells how frames are turned.

        Raises:
            VideoProblem: there is none.
        """
        container, stream = packet_listing.open_stream(self._file, self._threads)
        every = bytearray([Action.SHOW]) * len(self._table.times)
        with container:
            for _, frame in _FrameDecoder(container, stream, self._sender).decode(every):
                return frame
        raise VideoProblem("none of its frames can be decoded; is it damaged?")


def _serve(file: BinaryIO, threads: int, sender: Sender) -> None:
    """Answer with the properties of the video, and then, if a line asks for them, with its frames."""
    decoder = _VideoDecoder(file, threads, sender)
    sender.send(Kind.PROPERTIES, json.dumps(asdict(decoder.properties)).encode())
    if line := sys.stdin.buffer.readline():
        request = json.loads(line)
        if request["rows"] is None:
            request["rows"] = range(request["all_rows"])
        decoder.send_frames(request)


def main() -> None:
    """Decode the video that is open as the first argument says."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a group of processes gets them; the parent ends this one
    sender = Sender(os.dup(1))
    os.dup2(2, 1)  # what a library prints is no message
    av.logging.set_level(None)
    load_all_modules("av")
    load_pillow()
    gc.freeze()  # what is loaded stays, so that collecting costs little
    threads = int(sys.argv[2])
    with open(int(sys.argv[1]), "rb", buffering=0) as file:
        confine(threads=threads)
        try:
            _serve(file, threads, sender)
        except VideoProblem as problem:
            sender.send(Kind.PROBLEM, str(problem).encode())
        except MemoryError:
            text = f"decoding it takes more than {DECODER_MEMORY / 2**20:,.0f} MB; make its frames smaller"
            sender.send(Kind.PROBLEM, text.encode())
        except BrokenPipeError:
            sys.exit(1)
        except (av.error.FFmpegError, ValueError, OverflowError) as problem:
            sender.send(Kind.PROBLEM, f"cannot be decoded ({problem}); is it damaged?"[:1000].encode())
        except OSError as problem:
            sender.send(Kind.PROBLEM, f"cannot be read ({problem.strerror}); copy it from its disk or server".encode())


if __name__ == "__main__":
    main()
