"""Decoding processes for fuzzing: forked from one that has loaded everything, which takes a tenth of a start's time.

``python -m tests.fuzz.decoder_forks DESCRIPTOR`` is that process. It gets open files over the socket with this
descriptor, and answers with the fork's id and then with its exit code.
"""

import atexit
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
from functools import cache
from pathlib import Path
from typing import BinaryIO

_NUMBER = struct.Struct("<q")
_FILES = 4
"""The video, and standard input, output and error."""


class ForkedDecoder:
    """A decoding process with what ``video_reader`` uses of ``Popen``."""

    def __init__(self, server: socket.socket, files: tuple[BinaryIO, BinaryIO, BinaryIO]) -> None:
        self.stdin, self.stdout, self.stderr = files
        self._server = server
        (self.pid,) = _NUMBER.unpack(server.recv(_NUMBER.size, socket.MSG_WAITALL))
        self.returncode: int | None = None

    def kill(self) -> None:
        """End it, unless it has ended."""
        if self.returncode is None and not select.select([self._server], [], [], 0)[0]:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code, or minus the number of the signal that ended it."""
        if self.returncode is None:
            (self.returncode,) = _NUMBER.unpack(self._server.recv(_NUMBER.size, socket.MSG_WAITALL))
        return self.returncode


def fork_decoder(path: Path, threads: int) -> ForkedDecoder:
    """As ``video_reader._start``; one at a time, with one thread."""
    assert threads == 1
    server, pipes = _server(), [os.pipe() for _ in range(3)]
    (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = pipes
    with open(path, "rb", buffering=0) as video:
        socket.send_fds(server, [b"F"], [video.fileno(), theirs_in, theirs_out, theirs_err])
    for descriptor in (theirs_in, theirs_out, theirs_err):
        os.close(descriptor)
    files = os.fdopen(ours_in, "wb", 0), os.fdopen(ours_out, "rb", 0), os.fdopen(ours_err, "rb", 0)
    return ForkedDecoder(server, files)


@cache
def _server() -> socket.socket:
    """Start the process that is forked, and return the socket to it."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "tests.fuzz.decoder_forks", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=Path(__file__).parents[2])
    theirs.close()

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


def _serve(client: socket.socket) -> None:
    while True:
        _, files, _, _ = socket.recv_fds(client, 1, _FILES)
        if len(files) != _FILES:
            return
        pid = os.fork()
        if pid == 0:
            client.close()
            _decode(files)
        for descriptor in files:
            os.close(descriptor)
        client.send(_NUMBER.pack(pid))
        _, status = os.waitpid(pid, 0)
        client.send(_NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _decode(files: list[int]) -> None:
    """Do in this process what ``python -m stale_runtime.video.video_decoder`` does."""
    from stale_runtime.video import video_decoder

    video, *standard = files
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    code = 0
    try:
        sys.argv[1:] = [str(video), "1"]
        video_decoder.main()
    except SystemExit as problem:
        code = int(problem.code or 0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        code = 1
    os._exit(code)


if __name__ == "__main__":
    from stale_runtime.video import decoder_sandbox, frame_resizing, video_decoder  # noqa: F401 -- loaded once, for all

    decoder_sandbox.load_all_modules("av")
    frame_resizing.load_pillow()
    _serve(socket.socket(fileno=int(sys.argv[1])))
