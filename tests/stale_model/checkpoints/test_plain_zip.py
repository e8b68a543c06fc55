"""Checkpoints as zip files: what PyTorch gets to read, and what it does not."""

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from stale_model.checkpoints.loading import plain_content
from stale_model.checkpoints.plain_zip import Piece, PiecedFile, open_plain_zip
from stale_runtime.errors import CheckpointError

CONTENT: dict[str, Any] = {
    "a": torch.arange(5.0),
    "b": torch.ones(3, 4, dtype=torch.float16),
    "text": "x",
    "none": torch.zeros(0),
}


def saved(content: object = CONTENT) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def packed(contents: Mapping[str, bytes], *, streamed: bool = False) -> bytes:
    """A zip file by another hand than PyTorch's, with the sizes behind the members where it is streamed."""
    buffer = io.BytesIO()
    target: Any = Stream(buffer) if streamed else buffer
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Stream:
    """A file that is written from start to end."""

    def __init__(self, file: io.BytesIO) -> None:
        self.write, self.flush = file.write, file.flush


def same(read: object) -> bool:
    assert isinstance(read, dict)
    assert read.keys() == CONTENT.keys()
    return all(torch.equal(read[name], CONTENT[name]) for name in "ab") and read["text"] == "x"


def test_what_pytorch_saved_is_read_whoever_packed_it() -> None:
    contents = members(saved())
    assert {"archive/.data/serialization_id", "archive/byteorder", "archive/version"} <= contents.keys()
    old = {name: contents[name] for name in contents if "/data" in name or name.endswith("/version")}
    for data in (
        saved(),
        packed(contents),
        packed(contents, streamed=True),
        packed(old),
        packed({name.replace("archive", "be st"): content for name, content in contents.items()}),
        b"in front" + packed(contents),
    ):
        assert same(plain_content(io.BytesIO(data), "best.pth"))


def test_other_bytes_of_a_weight_are_read_as_others() -> None:
    contents = members(saved())
    contents["archive/data/0"] = struct.pack("<5f", 0, 1, 2, 3, 5)
    assert not same(plain_content(io.BytesIO(packed(contents)), "best.pth"))


def test_the_new_zip_is_one_to_python_too() -> None:
    data = saved()
    archive = open_plain_zip(io.BytesIO(data))
    assert archive.size == len(data)
    with zipfile.ZipFile(io.BytesIO(archive.file.read())) as written:
        got = {entry.filename: entry for entry in written.infolist()}
    contents = {name: content for name, content in members(data).items() if name in got}
    assert {"archive/data.pkl", "archive/data/0", "archive/data/1"} <= contents.keys()
    assert {name: entry.file_size for name, entry in got.items()} == {n: len(c) for n, c in contents.items()}
    assert archive.pickle == contents["archive/data.pkl"]


def test_one_storage_by_many_names_is_not_many() -> None:
    """PyTorch finds ``data/aAaA`` where there is ``data/aaaa``, and takes memory for each spelling."""
    contents = members(saved([torch.zeros(100), torch.zeros(100)]))
    for old, new in ((b"0", b"A"), (b"1", b"a")):
        contents["archive/data.pkl"] = contents["archive/data.pkl"].replace(b"X\1\0\0\0" + old, b"X\1\0\0\0" + new)
    contents["archive/data/a"] = contents["archive/data/0"]
    data = packed(contents)
    assert len(torch.load(io.BytesIO(data), weights_only=True)) == 2  # else it tests nothing
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors"):
        plain_content(io.BytesIO(data), "best.pth")


@pytest.mark.parametrize("name", ["archive/data.pkl", "archive/data/0", "other/data.pkl", "other/data/0"])
def test_a_second_member_of_a_name_is_refused(name: str) -> None:
    buffer = io.BytesIO(saved())
    with zipfile.ZipFile(buffer, "a") as archive, pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        archive.writestr(name, b"\x80\x02}.")
    with pytest.raises(CheckpointError, match="uncompressed zip file"):
        plain_content(buffer, "best.pth")


def test_a_member_beyond_the_end_is_refused() -> None:
    contents = members(saved())
    data = bytearray(packed({**contents, "archive/data/0": bytes(20)}))
    struct.pack_into("<H", data, data.index(b"archive/data/0") - 2, 60_000)  # the length of its own extra field
    with pytest.raises(CheckpointError, match="uncompressed zip file"):
        plain_content(io.BytesIO(bytes(data)), "best.pth")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_pieces_are_read_as_one_file(step: int) -> None:
    source = bytes(range(100))
    file = PiecedFile(io.BytesIO(source), [b"head", Piece(10, 5), b"", Piece(50, 0), Piece(40, 30), b"tail"])
    whole = b"head" + source[10:15] + source[40:70] + b"tail"
    assert b"".join(iter(lambda: file.read(step), b"")) == whole
    assert file.seek(-6, io.SEEK_END) == len(whole) - 6 == file.tell()
    assert file.read() == whole[-6:]
    for start in range(len(whole)):
        file.seek(start)
        assert file.read(step) == whole[start : start + step]


def test_a_file_that_has_become_shorter_is_noticed() -> None:
    with pytest.raises(OSError, match="ends before its directory says"):
        PiecedFile(io.BytesIO(b"short"), [Piece(0, 9)]).read()
