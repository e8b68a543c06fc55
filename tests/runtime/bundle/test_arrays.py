import copy
import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from stale_runtime.bundle.arrays import pack_arrays, unpack_arrays
from stale_runtime.errors import BundleError
from tests.runtime.helpers import npy_bytes

names = st.text("abcdefgh_", min_size=1, max_size=5)
kinds = st.one_of(
    hnp.floating_dtypes(), hnp.integer_dtypes(), hnp.boolean_dtypes(), hnp.unicode_string_dtypes(min_len=1, max_len=5)
)
arrays = hnp.arrays(kinds, hnp.array_shapes(min_dims=0, min_side=1, max_side=4))


def archive(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"some\.npz: not an archive of plain arrays \(.*copy the bundle again"):
        unpack_arrays(data, "some.npz")


@settings(deadline=None)
@given(st.dictionaries(names, arrays, max_size=3))
def test_round_trips(given_arrays: dict[str, NDArray[Any]]) -> None:
    data = pack_arrays(given_arrays)
    back = unpack_arrays(data, "some.npz")
    assert list(back) == list(given_arrays)
    for name, array in given_arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back[name], array)
    assert pack_arrays(given_arrays) == data


def test_numpy_reads_it() -> None:
    expected = {"texts": np.array(["polo", "archery"]), "embeddings": np.eye(3, dtype=np.float32)[:, ::-1]}
    with np.load(io.BytesIO(pack_arrays(expected))) as loaded:
        assert sorted(loaded) == ["embeddings", "texts"]
        for name, array in expected.items():
            np.testing.assert_array_equal(loaded[name], array)


def test_reads_what_numpy_writes() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.arange(6).reshape(2, 3).T)
    np.testing.assert_array_equal(unpack_arrays(buffer.getvalue(), "some.npz")["x"], [[0, 3], [1, 4], [2, 5]])


def test_pickled_objects_are_neither_written_nor_read() -> None:
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        pack_arrays({"x": objects})
    buffer = io.BytesIO()
    np.savez(buffer, x=objects)
    refused(buffer.getvalue())


def test_compressed_archives_are_refused() -> None:
    refused(archive(zipfile.ZIP_DEFLATED, x=npy_bytes("(4,)", bytes(16))))


@pytest.mark.parametrize(
    "member",
    [
        b"",
        b"nonsense",
        npy_bytes("(4,)", bytes(15)),
        npy_bytes("(4000000000000,)", bytes(16)),
        npy_bytes("(4000000000000, 4000000000000)", bytes(16)),
        npy_bytes("(-1,)", bytes(16)),
        npy_bytes("(-2, -2)", bytes(16)),
        npy_bytes("(1099511627776,)", b"", descr="'<U0'"),
        npy_bytes("(1099511627776, 0)", b""),
        npy_bytes("(4,)", bytes(16), descr="'|O'"),
        npy_bytes("(4,)", bytes(16)).replace(b"NUMPY\x01", b"NUMPY\x02"),
    ],
)
def test_crafted_members_are_refused(member: bytes) -> None:
    refused(archive(x=member))


def test_members_that_overlap_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x0.npy", npy_bytes("(2500,)", bytes(10_000)))
        for n in range(1, 50):
            other = copy.copy(file.filelist[0])
            other.filename = f"x{n}.npy"
            file.filelist.append(other)
    data = buffer.getvalue()
    assert len(data) < 20_000
    with pytest.raises(BundleError, match="overlap"):
        unpack_arrays(data, "some.npz")


@pytest.mark.parametrize("number", [0x110000, 0xFFFFFFFF])
def test_numbers_that_stand_for_no_character_are_refused(number: int) -> None:
    refused(archive(x=npy_bytes("(1,)", number.to_bytes(4, "little"), descr="'<U1'")))


def test_what_is_no_archive_is_refused() -> None:
    good = pack_arrays({"x": np.arange(4)})
    for bad in (b"", b"PK", npy_bytes("(4,)", bytes(16)), good[:-1], good[:40], good[40:]):
        refused(bad)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_changed_byte_raises_nothing_else(data: st.DataObject) -> None:
    content = bytearray(pack_arrays({"x": np.arange(4), "y": np.array(["a", "b"])}))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        back = unpack_arrays(bytes(content), "some.npz")
    except BundleError:
        return
    assert sum(array.nbytes for array in back.values()) <= len(content)
