"""Untrusted videos cost one line, and neither memory, time, files nor the network."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stale_runtime.errors import VideoError
from stale_runtime.inputs.recipe import clip_recipe
from stale_runtime.video import decoder_sandbox, packet_listing, video_properties
from stale_runtime.video.video_reader import VideoFrames, probe_video, read_video
from tests.runtime.helpers import no_waiting
from tests.runtime.video.clips import scene, write_clip
from tests.runtime.video.hostile import make_hostile_files

RECIPE = clip_recipe("test", snippet_s=0.5)
REFUSED = re.compile(
    r"(pipe|folder|missing|zero|enormous|large|ten-hours|three-days|thin|empty|zeros|noise|picture|sound)\."
)


def read(path: Path) -> "tuple[int, int] | str":
    """How many frames are read and how many are damaged, or the error."""
    try:
        with read_video(path, RECIPE) as video:
            return sum(len(batch) for batch in video), video.damaged_frames
    except VideoError as problem:
        return str(problem)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_hostile_files(tmp_path_factory.mktemp("hostile"))


def test_each_hostile_video_is_read_as_far_as_it_goes_or_costs_one_line(hostile: dict[str, Path]) -> None:
    assert len(hostile) >= 50
    results = {}
    for name, path in hostile.items():
        with no_waiting(60):
            results[name] = read(path)
    for name, result in results.items():
        if isinstance(result, str):
            assert result.startswith(f"{hostile[name]}: "), name
            assert "\n" not in result, name
            assert len(result) < len(str(hostile[name])) + 300, name
            assert "failed with exit code" not in result, name
            assert "SIG" not in result, name
        else:
            assert result[0] <= 30 * video_properties.SPARSEST_FRAMES_S / 0.5, name  # a time may be flipped
            assert name.startswith(("flipped", "cut", "four-billion", "elsewhere", "wrong-size")), name
    assert all(isinstance(results[name], str) for name in hostile if REFUSED.match(name))
    assert sum(isinstance(result, tuple) for result in results.values()) >= 10


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("local.m3u8", "cannot be opened as a video"),
        ("enormous.avi", "its frames have no size, or an impossible one"),
        ("large.avi", "frames of 15000 x 15000 pixels, expected at most 33,554,432"),
        ("ten-hours.mkv", "only 2 frames in 36,0"),
        ("three-days.mkv", "s long, expected at most 86,400"),
        ("sound.mp4", "has no video, only audio"),
        ("picture.mp4", "expected a complete mp4"),
        ("thin.mkv", "frames of 2048 x 2 pixels, expected sides at most 100 times apart"),
        ("pipe.mp4", "not a regular file"),
        ("missing.mp4", "No such file"),
    ],
)
def test_the_line_says_what_is_wrong(hostile: dict[str, Path], name: str, says: str) -> None:
    with pytest.raises(VideoError, match=re.escape(says)):
        probe_video(hostile[name])


CONFINED = """
import os, socket, subprocess, sys
from stale_runtime.video.decoder_sandbox import confine
confine(threads=1)
for attempt in (
    lambda: open("/etc/hostname"),
    lambda: socket.socket(),
    lambda: os.pipe(),
    lambda: os.write(int(sys.argv[1]), b"x"),
    lambda: bytearray(4_000_000_000),
):
    try:
        attempt()
        print("allowed")
    except (OSError, MemoryError) as problem:
        print(type(problem).__name__, getattr(problem, "errno", ""))
"""


def test_a_decoder_can_open_nothing_write_no_file_and_take_no_more_memory(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", CONFINED, str(file.fileno())],
            capture_output=True,
            text=True,
            check=True,
            pass_fds=[file.fileno()],
            preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        )
    assert done.stdout.split("\n")[:-1] == [*["OSError 24"] * 3, "OSError 27", "MemoryError "]


def start(tmp_path: Path) -> VideoFrames:
    path = write_clip(tmp_path / "clip.mp4", [scene(320, 180, n) for n in range(50)])
    video = read_video(path, clip_recipe("test", snippet_s=0.04), batch_rows=1)
    next(video)
    return video


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_decoder_is_confined_while_it_decodes(tmp_path: Path) -> None:
    with start(tmp_path) as video:
        folder = Path(f"/proc/{video._decoder._process.pid}")
        limits = (folder / "limits").read_text()
        opened = sorted(os.readlink(link) for link in (folder / "fd").iterdir())
    assert re.search(r"^Max open files +0 +0 ", limits, re.MULTILINE)
    assert re.search(rf"^Max address space +{decoder_sandbox.DECODER_MEMORY} ", limits, re.MULTILINE)
    assert [name for name in opened if not name.startswith("pipe:")] == [str(tmp_path / "clip.mp4")]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_decoder_keeps_no_frames(tmp_path: Path) -> None:
    """A frame and its side data refer to each other: left to themselves, some 170 frames of 3 MB would be kept."""
    picture = np.zeros((1080, 1920, 3), np.uint8)
    path = write_clip(tmp_path / "clip.mp4", [picture] * 120, codec="mpeg4")
    with read_video(path, clip_recipe("test", snippet_s=0.04, image_size=16), batch_rows=1) as video:
        peaks = []
        for number, _ in enumerate(video):
            if number in (20, 110):
                status = Path(f"/proc/{video._decoder._process.pid}/status").read_text()
                peaks.append(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024)
    assert peaks[1] - peaks[0] < 60


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file whose beginning cannot be read")
def test_a_disk_that_cannot_be_read_is_no_bug(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to("/proc/self/mem")
    with pytest.raises(VideoError, match=r"a\.mp4: cannot be read \(Input/output error\); copy it from its disk"):
        probe_video(tmp_path / "a.mp4")


def test_a_decoder_that_is_killed_costs_one_line(tmp_path: Path) -> None:
    with start(tmp_path) as video:
        video._decoder._process.send_signal(signal.SIGSEGV)
        with pytest.raises(VideoError, match="ended its decoder by SIGSEGV; it may be damaged, or memory ran out"):
            for _ in video:
                pass


def test_a_decoder_that_stands_still_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stale_runtime.video import video_reader

    with start(tmp_path) as video:
        monkeypatch.setattr(video_reader, "_STALL_S", 0.2)
        video._decoder._process.send_signal(signal.SIGSTOP)
        with pytest.raises(VideoError, match="decoding stood still"):
            for _ in video:
                pass


def test_ctrl_c_and_the_end_of_a_session_are_left_to_the_parent(tmp_path: Path) -> None:
    """A terminal sends them to both. The decoder goes on until the parent ends it."""
    with start(tmp_path) as video:
        process = video._decoder._process
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
        assert np.concatenate(list(video)).shape == (49, 224, 224, 3)
    assert process.returncode is not None


def test_playlists_open_nothing_even_without_the_sandbox(
    hostile: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg gets the content of one open file, and its demuxers of playlists are not among those that are used."""

    def refuse(*_: object) -> None:
        pytest.fail("a socket is made")

    monkeypatch.setattr(socket, "socket", refuse)
    for name in ("local.m3u8", "hls.mp4", "hls.avi", "concat.mp4", "dash.mpd", "call.sdp"):
        with (
            open(hostile[name], "rb", buffering=0) as file,
            pytest.raises(packet_listing.VideoProblem, match="cannot be opened as a video"),
        ):
            packet_listing.open_stream(file, 1)


def test_the_formats_that_are_used_read_no_other_files() -> None:
    assert not {"hls", "dash", "concat", "image2", "sdp", "rtsp", "lavfi", "imf"} & set(packet_listing.CONTAINERS)
    assert video_properties.MOST_PIXELS == 2**25


def test_no_module_of_the_current_folder_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos and a planted module may lie in the same folder of downloads."""
    path = write_clip(tmp_path / "clip.mp4", [scene(64, 64)])
    (tmp_path / "av.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(tmp_path)
    assert probe_video(path).frames == 1
