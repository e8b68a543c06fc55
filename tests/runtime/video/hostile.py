"""Files that are no videos, or not as they say."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.runtime.video.clips import numbered, scene, write_clip, write_sound

SECRET = "a-secret-file"
ADDRESS = "http://127.0.0.1:9/playlist"
PLAYLISTS = {
    "local.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
    "remote.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}.ts\n#EXT-X-ENDLIST\n",
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}.ts\n#EXT-X-ENDLIST\n",
    "hls.avi": "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\nconcat:{address}|file://{secret}\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile '{secret}'\n",
    "concat.txt": "ffconcat version 1.0\nfile '{address}'\n",
    "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1"><BaseURL>{address}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "call.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "list.pls": "[playlist]\nFile1={address}\nNumberOfEntries=1\n",
    "list.asx": '<asx version="3.0"><entry><ref href="{address}"/></entry></asx>',
    "redirect.asf": "[Reference]\nRef1={address}\n",
    "image%03d.mp4": "\n",
    "text.mp4": "This is not a video.\n" * 50,
    "picture.svg.mp4": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{address}"/></svg>',
    "subtitles.mp4": "1\n00:00:00,000 --> 10:00:00,000\nten hours\n\n",
}


def make_hostile_files(folder: Path) -> dict[str, Path]:
    """More than fifty files, by name."""
    secret = write_clip(folder / SECRET, [numbered(n) for n in range(5)], container="mp4")
    files = dict(_contents(folder, secret))
    for name, data in files.items():
        (folder / name).write_bytes(data)
    paths = {name: folder / name for name in files}
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.mp4").mkdir()
    others = {"pipe.mp4": folder / "pipe.mp4", "folder.mp4": folder / "folder.mp4", "missing.mp4": folder / "no.mp4"}
    return paths | others | {"zero.mp4": Path("/dev/zero")}


def _contents(folder: Path, secret: Path) -> Iterator[tuple[str, bytes]]:
    for name, text in PLAYLISTS.items():
        yield name, text.format(secret=secret, address=ADDRESS).encode()
    videos = {
        name: write_clip(folder / f"good.{name}", [scene(160, 96, n) for n in range(30)], codec=codec).read_bytes()
        for name, codec in {"mp4": "libx264", "mkv": "libx264", "ts": "libx264", "avi": "mpeg4", "webm": "vp9"}.items()
    }
    for name, data in videos.items():
        for part in (0.02, 0.3, 0.9):
            yield f"cut-{part}.{name}", data[: int(len(data) * part)]
        for seed in range(3):
            yield f"flipped-{seed}.{name}", _flip(data, seed)
    yield from _lies(folder, videos)
    yield "empty.mp4", b""
    yield "zeros.mp4", bytes(100_000)
    yield "noise.mp4", np.random.default_rng(0).bytes(100_000)
    yield "picture.mp4", _png()
    yield "sound.mp4", write_sound(folder / "good.m4a").read_bytes()
    yield "program.mp4", b"\x7fELF" + bytes(1000)
    yield "archive.mp4", b"PK\x03\x04" + bytes(1000)
    yield "array.mp4", b"\x93NUMPY\x01\x00" + bytes(1000)


def _lies(folder: Path, videos: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Headers that claim what is not so."""
    mp4 = bytearray(videos["mp4"])
    avi = bytearray(write_clip(folder / "good-wmv.avi", [scene(160, 96)], codec="wmv2").read_bytes())
    place = avi.index(b"strf") + 12
    for name, side in (("enormous.avi", 100_000), ("large.avi", 15_000)):
        avi[place : place + 8] = struct.pack("<ii", side, side)
        yield name, bytes(avi)
    place = mp4.index(b"avc1") + 28
    mp4[place : place + 4] = struct.pack(">HH", 65535, 65535)
    yield "wrong-size.mp4", bytes(mp4)
    two = [numbered(1, 16, 16), numbered(2, 16, 16)]
    yield "ten-hours.mkv", write_clip(folder / "good-ten.mkv", two, times=[0, 36_000]).read_bytes()
    yield "three-days.mkv", write_clip(folder / "good-three.mkv", two, times=[0, 3 * 86_400]).read_bytes()
    counted = bytearray(videos["mp4"])
    place = counted.index(b"stts") + 8
    counted[place + 4 : place + 8] = struct.pack(">I", 0xFFFFFFFF)
    yield "four-billion-frames.mp4", bytes(counted)
    elsewhere = bytearray(videos["mp4"])
    place = elsewhere.index(b"url ") + 4
    elsewhere[place : place + 4] = bytes(4)  # the frames are said to be in another file
    yield "elsewhere.mp4", bytes(elsewhere)
    thin = [np.zeros((2, 2048, 3), np.uint8)]
    yield "thin.mkv", write_clip(folder / "good-thin.mkv", thin, codec="ffv1", pixel_format="bgr0").read_bytes()


def _flip(data: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    flipped = bytearray(data)
    for place in rng.integers(0, len(data), 20 * (seed + 1)):
        flipped[place] ^= int(rng.integers(1, 256))
    return bytes(flipped)


def _png() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(16 * 49))) + chunk(b"IEND", b"")
