import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_runtime.errors import FeatureError
from stale_runtime.inputs.feature_stream import PIECE_BYTES, read_rows
from tests.runtime.helpers import npy_bytes

C = 16


def some(T0: int = 50, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(T0).standard_normal((T0, C)).astype(dtype)


def npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def dripping(data: bytes, size: int) -> Callable[[int], bytes]:
    """A reader that gets a few bytes at a time, as from a pipe."""
    buffer = io.BytesIO(data)
    return lambda most: buffer.read(min(most, size))


def collect(rows: Iterator[NDArray[Any]]) -> tuple[NDArray[Any], str]:
    """The snippets, and the message of the error that ended them."""
    found, said = [np.zeros((0, C))], ""
    try:
        found += rows
    except FeatureError as problem:
        said = str(problem)
    assert "\n" not in said
    return np.concatenate(found), said


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f2", ">f4", ">f8"])
@pytest.mark.parametrize("size", [1, 7, 64, 1000, 10**6])
def test_rows_of_an_array_come_out_whatever_the_pieces(dtype: str, size: int) -> None:
    rows = list(read_rows(dripping(npy(some(dtype=dtype)), size), C, raw=False))
    np.testing.assert_array_equal(np.concatenate(rows), some(dtype=dtype))
    assert all(piece.dtype == np.dtype(dtype).newbyteorder("=") for piece in rows)


@given(st.integers(1, 2000), st.integers(1, 60))
def test_rows_without_a_header_come_out_whatever_the_pieces(size: int, T0: int) -> None:
    found, said = collect(read_rows(dripping(some(T0).astype("<f4").tobytes(), size), C, raw=True))
    np.testing.assert_array_equal(found, some(T0))
    assert said == ""


def test_a_header_is_understood_where_rows_without_one_are_expected() -> None:
    found, said = collect(read_rows(dripping(npy(some()), 100), C, raw=True))
    np.testing.assert_array_equal(found, some())
    assert said == ""


def test_a_row_comes_out_as_soon_as_it_is_complete() -> None:
    """Whoever writes a row a second must not have to wait for the next one."""
    asked = 0

    def read(most: int) -> bytes:
        nonlocal asked
        asked += 1
        return data.read(min(most, 4 * C))

    data = io.BytesIO(some().tobytes())
    rows = read_rows(read, C, raw=True)
    for n in range(20):
        np.testing.assert_array_equal(next(rows), some()[n : n + 1])
        assert asked <= n + 3  # two more for the first bytes, which tell whether there is a header


def test_no_more_is_held_than_a_piece() -> None:
    longest = 0

    def read(most: int) -> bytes:
        nonlocal longest
        longest = max(longest, most)
        return data.read(most)

    data = io.BytesIO(np.zeros((20_000, C), np.float32).tobytes())
    assert max(len(piece) for piece in read_rows(read, C, raw=True)) * 4 * C <= longest + 4 * C
    assert longest <= PIECE_BYTES


@pytest.mark.parametrize(
    ("data", "raw", "says"),
    [
        (b"", False, "stdin: empty, expected snippet features"),
        (b"", True, "stdin: empty, expected snippet features"),
        (some().tobytes(), False, r"not a .npy stream, expected an array (snippets, 16)"),
        (some().tobytes(), False, "without a header give --width 16"),
        (b"PK\x03\x04" + bytes(100), False, "an .npz archive"),
        (npy(some())[:100], False, "a broken .npy header"),
        (npy(some())[:7], False, "a broken .npy header"),
        (b"\x93NUMPY\x01\x00\xff\xff" + bytes(70_000), False, "a broken .npy header"),
        (npy(some()[:, :7]), False, "shape (50, 7), expected (snippets, 16)"),
        (npy(some(5).T), False, "transpose it: features.T"),
        (npy(some(0)), False, "0 snippets, expected 1 to"),
        (npy(some().astype(np.int32)), False, "type int32, expected float16, float32 or float64"),
        (npy(np.asfortranarray(some())), False, "an array in Fortran order, whose rows are complete only at its end"),
        (npy_bytes("(1, 16)", bytes(64), descr="'|O'"), False, "pickled objects, which are never loaded"),
    ],
)
def test_what_is_no_stream_of_features_is_refused_before_the_first_snippet(data: bytes, raw: bool, says: str) -> None:
    found, said = collect(read_rows(dripping(data, 50), C, raw=raw))
    assert (len(found), says in said) == (0, True), said


@pytest.mark.parametrize(
    ("data", "raw", "snippets", "says"),
    [
        (npy(some())[:-1], False, 49, "truncated, 49 snippets and 63 bytes of the 50 snippets that its header"),
        (npy(some())[: -10 * 4 * C], False, 40, "truncated, 40 snippets and 0 bytes of the 50 snippets"),
        (npy(some()) + b"x", False, 50, "too long, more than the 50 snippets that its header promises"),
        (npy(some()) + npy(some()), False, 50, "with --width 16"),
        (some().tobytes()[:-60], True, 49, "ended after 4 of the 64 bytes of snippet 49;"),
        (some(1).tobytes()[:3], True, 0, "ended after 3 of the 64 bytes of snippet 0;"),
    ],
)
@pytest.mark.parametrize("size", [1, 50, 10**6])
def test_a_stream_that_ends_wrongly_gives_its_whole_snippets_first(
    data: bytes, raw: bool, snippets: int, says: str, size: int
) -> None:
    found, said = collect(read_rows(dripping(data, size), C, raw=raw))
    np.testing.assert_array_equal(found, some()[:snippets])
    assert says in said
    assert said.startswith("stdin: ")


def test_a_stream_that_cannot_be_read_is_an_error_of_the_input() -> None:
    def read(_: int) -> bytes:
        raise IsADirectoryError(21, "Is a directory")

    _, said = collect(read_rows(read, C, raw=True))
    assert said == "stdin: Is a directory; give a stream that can be read"


@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_arbitrary_bytes_raise_nothing_but_feature_errors(data: bytes, magic: bool, raw: bool) -> None:
    collect(read_rows(dripping(b"\x93NUMPY\x01\x00" + data if magic else data, 9), C, raw=raw))
