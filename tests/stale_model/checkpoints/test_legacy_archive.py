"""Files in the format before PyTorch 1.6 are read as PyTorch reads them, or refused."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from stale_model import read_checkpoint, read_original_checkpoint
from stale_model.checkpoints.legacy_archive import HEAD, LegacyArchive
from stale_model.checkpoints.loading import load_plain, plain_content
from stale_runtime.errors import CheckpointError
from tests.runtime.helpers import no_waiting

SIZES = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def read(data: bytes) -> Any:
    return plain_content(io.BytesIO(data), "best.pth")


def refusal(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=2)


def packed(content: bytes, names: object = (), numbers: bytes = b"") -> bytes:
    """A file that PyTorch did not write, around the pickle of its content."""
    return HEAD + pickled(SIZES) + content + pickled(names) + numbers


def tensor(count: int, *, view: bytes = b"N", kind: bytes = b"Float", name: bytes = b"0") -> bytes:
    """A pickle of the first numbers of a storage called ``name``, which is said to have five."""
    storage = (
        b"(X\x07\0\0\0storagectorch\n" + kind + b"Storage\nX\x01\0\0\0" + name + b"X\x03\0\0\0cpuK\5" + view + b"tQ"
    )
    return b"\x80\2ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0K%c\x85K\1\x85\x89}tR." % count


FIVE = struct.pack("<Q5f", 5, *range(5))


def test_everything_is_read_as_pytorch_reads_it() -> None:
    shared = torch.arange(24.0).reshape(4, 6)
    kinds: list[torch.dtype] = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
    kinds += [torch.float16, torch.bfloat16, torch.float32, torch.float64]
    content = {
        "tensors": [torch.arange(7).to(kind) for kind in kinds]
        + [shared, shared.T, shared[1:3, ::2], shared[0, 0], shared[:0], torch.zeros(0)],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "state": torch.nn.Linear(2, 3).state_dict(),
        "plain": [None, True, False, -1, 255, 70_000, 2**40, -(2**70), 0.5, "naïve", (), ((1, 2), [3]), {4: {}}],
    }
    data = saved(content)
    assert data.startswith(HEAD)
    found, expected = read(data), torch.load(io.BytesIO(data), weights_only=True)
    assert found["plain"] == expected["plain"]
    assert found["state"]._metadata == expected["state"]._metadata
    pairs = [*zip(found["tensors"], expected["tensors"], strict=True), (found["parameter"], expected["parameter"])]
    pairs += [(found["state"][name], weight) for name, weight in expected["state"].items()]
    for one, other in pairs:
        assert (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        assert torch.equal(one, other)
    assert found["tensors"][-5].data_ptr() == found["tensors"][-6].data_ptr()


def test_the_format_of_pytorch_before_0_4_is_read() -> None:
    """It called another function, and had one argument fewer."""
    content = tensor(5).replace(b"_rebuild_tensor_v2", b"_rebuild_tensor").replace(b"\x89}tR.", b"tR.")
    assert read(packed(content, ["0"], FIVE)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("own", [True, False])
def test_a_checkpoint_of_either_format_is_read(checkpoint: Any, clip_folder: Any, tmp_path: Any, own: bool) -> None:
    trained = read_original_checkpoint(checkpoint, str(clip_folder))
    content = torch.load(checkpoint, weights_only=True)
    if own:
        from stale_model.checkpoints.own_checkpoint import StaleWithText, pack_checkpoint

        content = pack_checkpoint(StaleWithText(trained.network, trained.tower), trained.clip, ("a", "b"), {})
    (tmp_path / "old.pth").write_bytes(saved(content))
    found = read_checkpoint(tmp_path / "old.pth", str(clip_folder))
    assert found.format == ("stale-edge" if own else "original")
    for module, other in ((found.network, trained.network), (found.tower, trained.tower)):
        assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in module.state_dict().items())


@pytest.mark.parametrize(
    ("content", "names", "numbers", "says"),
    [
        (tensor(6), ["0"], FIVE, "out of bounds"),
        (tensor(5), ["0"], FIVE[:-1], "beyond the end of the file"),
        (tensor(5), ["0"], FIVE + b"x", "bytes after the last tensor"),
        (tensor(5), ["0"], struct.pack("<q", -1), "beyond the end"),
        (tensor(5), ["0"], struct.pack("<Q", 2**62), "beyond the end"),
        (tensor(5), ["0"], b"", "unpack"),
        (tensor(5), [], b"", "'0'"),
        (tensor(5), ["1"], FIVE, "type is not known"),
        (tensor(5), [["0"]], FIVE, "unhashable"),
        (tensor(5), ["0", "0"], FIVE * 2, "two storages with one name"),
        (tensor(5, view=b"(X\1\0\0\0vK\0K\5t"), ["0"], FIVE, "a view of a storage"),
        (tensor(5, kind=b"ComplexFloat"), ["0"], FIVE, "type is not known"),
        (b"\x80\2](" + tensor(5)[2:-1] + tensor(5, kind=b"Int")[2:-1] + b"e.", ["0"], FIVE, "a storage of two types"),
        (b"\x80\2cposix\nsystem\n(X\4\0\0\0exittR.", [], b"", "it asks for posix system"),
        (b"\x80\2N2\x86.", [], b"", "pickle operation DUP"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(content: bytes, names: object, numbers: bytes, says: str) -> None:
    assert read(packed(tensor(5), ["0"], FIVE)).tolist() == [0, 1, 2, 3, 4]
    assert says in refusal(packed(content, names, numbers))


def test_code_in_any_of_its_pickles_is_not_run() -> None:
    bomb = b"\x80\2cbuiltins\neval\nX\4\0\0\0exit\x85R."
    for data in (HEAD + bomb, HEAD + pickled(SIZES) + bomb, HEAD + pickled(SIZES) + pickled({}) + bomb):
        assert "cannot be read as plain tensors" in refusal(data + pickled([]))


def test_a_text_longer_than_the_file_takes_no_memory(tmp_path: Path) -> None:
    for asked in (b"X\xff\xff\xff\xff", b"\x8d" + b"\xff" * 7 + b"\x3f", b"\x8a\xff"):
        (tmp_path / "best.pth").write_bytes(HEAD + b"\x80\2" + asked + b"abc.")
        with no_waiting(), pytest.raises(CheckpointError, match="cannot be read as plain tensors"):
            load_plain(tmp_path / "best.pth")  # not from memory, which is never read beyond its end


def test_a_file_that_has_become_shorter_is_noticed() -> None:
    class Shrinking(io.BytesIO):
        def seek(self, place: int, whence: int = 0) -> int:
            if whence == 0 and place > len(data) - 21 and place < len(data):
                self.truncate(place)
            return super().seek(place, whence)

    data = packed(tensor(5), ["0"], FIVE)
    with pytest.raises(ValueError, match="ends too early"):
        LegacyArchive(Shrinking(data)).content(quantized=False)


def test_another_weight_is_read_as_another() -> None:
    other = struct.pack("<Q5f", 5, 0, 1, 2, 3, 5)
    assert read(packed(tensor(5), ["0"], other)).tolist() == [0, 1, 2, 3, 5]
