"""Archives of one array are read like files of one, and nothing larger than they say is unpacked."""

import io
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime.errors import FeatureError
from stale_runtime.inputs import npz_archive
from stale_runtime.inputs.feature_file import open_features, read_features
from tests.fuzz.mutations import pack_zip

C = 4
FEATURES = np.random.default_rng(0).standard_normal((30, C)).astype(np.float32)


def npy(array: NDArray[Any] = FEATURES) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    return pack_zip(list(members), method)


def refused(path: Path, match: str) -> None:
    with pytest.raises(FeatureError, match=match) as caught:
        read_features(path, C)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["v.npz", "v.npy"])
def test_an_archive_of_one_array_is_read(tmp_path: Path, save: Callable[..., None], name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        save(file, features=FEATURES)
    np.testing.assert_array_equal(read_features(tmp_path / name, C), FEATURES)
    with open_features(tmp_path / name, C) as file:
        assert file.summarise() is not None
        np.testing.assert_array_equal(np.concatenate(list(file.blocks())), FEATURES)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (packed(("features.npy", npy()), ("fps.npy", npy())), "of 2 arrays, expected one, 'features', 'fps'; save"),
        (packed(*((f"{n}.npy", npy()) for n in range(9))), "of 9 arrays, expected one, '0', '1', '2', '3', …; save"),
        (packed(), "of 0 arrays, expected one"),
        (packed(("v/data.pkl", b"x"), ("v/data/0", b"x")), "a file of torch.save, .*torch.load"),
        (packed(("notes.txt", b"x")), "a zip archive of 'notes.txt', expected an array"),
        (packed(("v.npy", npy()), method=zipfile.ZIP_LZMA), "packed in a way that numpy does not"),
        (packed(("v.npy", npy()), method=zipfile.ZIP_BZIP2), "packed in a way that numpy does not"),
        (packed(("v.npy", npy()[:-1])), "truncated"),
        (packed(("v.npy", b"x" * 300)), "not a .npy file"),
        (packed(("v.npy", packed(("v.npy", npy())))), "an .npz archive in a stream"),
        (packed(("v.npy", npy()))[:-30], "a broken .npz archive"),
        (packed(("v.npy", npy(np.array([[{}] * C], dtype=object)))), "pickled objects, which are never loaded"),
        (packed(("v.npy", npy()), method=zipfile.ZIP_STORED).replace(npy()[-8:], bytes(8)), "Bad CRC-32"),
    ],
)  # fmt: skip
def test_other_archives_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "v.npz").write_bytes(content)
    refused(tmp_path / "v.npz", says)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that says how large it is, nor one that lies."""
    path = tmp_path / "v.npz"
    monkeypatch.setattr(npz_archive, "LARGEST_UNPACKED", 2**20)
    monkeypatch.setattr(os, "memfd_create", lambda *_: os.open(tmp_path / "unpacked", os.O_RDWR | os.O_CREAT))
    bomb = packed(("v.npy", npy(np.zeros((2**18, C), np.float32))))
    path.write_bytes(bomb)
    refused(path, "an array of 4,194,432 bytes in an archive, expected at most 1,048,576; save it with numpy.save")
    size = (4 * 2**20 + 128).to_bytes(4, "little")
    assert bomb.count(size) == 2
    path.write_bytes(bomb.replace(size, (1000).to_bytes(4, "little")))
    refused(path, "a broken .npz archive|truncated")
    assert (tmp_path / "unpacked").stat().st_size <= 1000


def test_a_long_list_of_members_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    path.write_bytes(packed(*((f"{'x' * 200}{n}.npy", b"") for n in range(1000))))
    tracemalloc.start()
    try:
        refused(path, "its list of members has more than 131,072 bytes")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
