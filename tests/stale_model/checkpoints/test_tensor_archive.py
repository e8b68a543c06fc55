"""What ``torch.save`` wrote is read as PyTorch would read it, and what it could not have written is refused."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from stale_model.checkpoints.loading import plain_content
from stale_model.checkpoints.tensor_archive import TensorArchive
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
    """A zip file that PyTorch did not write; if it is streamed, the sizes follow the members."""
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
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors"):
        plain_content(io.BytesIO(bytes(data)), "best.pth")


def test_a_file_that_has_become_shorter_is_noticed() -> None:
    file = io.BytesIO(saved())
    archive = TensorArchive(file)
    file.truncate(100)
    with pytest.raises((EOFError, ValueError, zipfile.BadZipFile)):
        archive.content(quantized=False)


def test_a_flipped_bit_of_a_weight_is_noticed() -> None:
    data = bytearray(saved())
    data[data.index(struct.pack("<5f", *range(5))) + 3] ^= 1
    with pytest.raises(CheckpointError, match="Bad CRC-32"):
        plain_content(io.BytesIO(bytes(data)), "best.pth")


def test_everything_is_read_as_pytorch_reads_it() -> None:
    shared = torch.arange(24.0).reshape(4, 6)
    kinds: list[torch.dtype] = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
    kinds += [torch.float16, torch.bfloat16, torch.float32, torch.float64]
    content = {
        "kinds": [torch.arange(7).to(kind) for kind in kinds],
        "views": (shared, shared.T, shared[1:3, ::2], shared[0, 0], shared[:0]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "state": torch.nn.Linear(2, 3).state_dict(),
        "plain": [None, True, False, -1, 255, 70_000, 2**40, -(2**70), 0.5, "naïve", (), ((1, 2), [3]), {4: {}}],
    }
    content["same"] = content["plain"]
    data = saved(content)
    found, expected = plain_content(io.BytesIO(data), "best.pth"), torch.load(io.BytesIO(data), weights_only=True)
    assert found["plain"] == expected["plain"]
    assert found["same"] is found["plain"]
    assert found["state"]._metadata == expected["state"]._metadata
    pairs = [(found["parameter"], expected["parameter"])]
    for name in ("kinds", "views"):
        pairs += zip(found[name], expected[name], strict=True)
    pairs += [(found["state"][name], tensor) for name, tensor in expected["state"].items()]
    for one, other in pairs:
        assert (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        assert torch.equal(one, other)
    assert found["views"][1].untyped_storage().data_ptr() == found["views"][0].untyped_storage().data_ptr()


def test_numbers_of_a_machine_with_the_other_byte_order_are_read() -> None:
    contents = members(saved())
    contents["archive/byteorder"] = b"big"
    for n, width in ((0, 4), (1, 2)):
        numbers = contents[f"archive/data/{n}"]
        contents[f"archive/data/{n}"] = b"".join(numbers[at : at + width][::-1] for at in range(0, len(numbers), width))
    assert same(plain_content(io.BytesIO(packed(contents)), "best.pth"))


def with_pickle(content: bytes) -> bytes:
    return packed({**members(saved()), "archive/data.pkl": content})


TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\5tQ"
)
"""A call with the first five numbers, up to the offset."""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"K\0J\x06\0\0\0\x85K\1\x85\x89N}tR.", "out of bounds"),  # six of five
        (b"K\1K\5\x85K\1\x85\x89N}tR.", "out of bounds"),
        (b"J\xff\xff\xff\xffK\1\x85K\1\x85\x89N}tR.", "invalid storage offset"),
        (b"K\0K\1\x85J\xff\xff\xff\xff\x85\x89N}tR.", "Negative strides"),
        (b"K\0\x8a\x08" + bytes(7) + b"\x40\x85K\0\x85\x89N}tR.", "claim more than twice"),  # 2**62 times one
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(content: bytes, says: str) -> None:
    assert plain_content(io.BytesIO(with_pickle(b"\x80\2" + TENSOR + b"K\0K\5\x85K\1\x85\x89N}tR.")), "x").tolist()
    with pytest.raises(CheckpointError, match=says):
        plain_content(io.BytesIO(with_pickle(b"\x80\2" + TENSOR + content)), "best.pth")


@pytest.mark.parametrize("target", [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"])
@pytest.mark.parametrize("state", [b"}X\1\0\0\0aK\1s", b"N}X\1\0\0\0aK\1s\x86"], ids=["__dict__", "slots"])
def test_a_pickle_cannot_change_what_it_is_read_with(target: bytes, state: bytes) -> None:
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors"):
        plain_content(io.BytesIO(with_pickle(b"\x80\2" + target + state + b"b.")), "best.pth")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"N2\x86.", "pickle operation DUP"),
        (b"]r\xff\xff\xff\xff.", "a memo larger than the pickle"),
        (b"}N" + b"\x85" * 10**6 + b"Ns.", "1,000,000 tuples"),  # hashing it would end the process
        (b"]q\0h\0a" + b"\x85q\1" + b".", None),  # a list in itself
        (b"]" * 5000 + b"a" * 4999 + b".", "recursion"),
    ],
)
def test_odd_pickles_end_at_once(content: bytes, says: str | None) -> None:
    data = io.BytesIO(with_pickle(b"\x80\2" + content))
    if says is None:
        plain_content(data, "best.pth")
        return
    with pytest.raises(CheckpointError, match=says):
        plain_content(data, "best.pth")


def test_a_member_that_claims_to_be_large_only_in_the_file_takes_no_memory() -> None:
    data = bytearray(with_pickle(b"\x80\2}."))
    plain_content(io.BytesIO(data), "best.pth")
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"data.pkl"))
    data[entry + 20 : entry + 24] = (2**30).to_bytes(4, "little")
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="uncompressed"):
            plain_content(io.BytesIO(data), "best.pth")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
