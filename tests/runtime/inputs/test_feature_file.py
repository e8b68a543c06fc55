import io
import os
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_runtime.errors import FeatureError
from stale_runtime.inputs import feature_file
from stale_runtime.inputs.feature_file import open_features, read_features
from stale_runtime.inputs.feature_statistics import summarise_features
from stale_runtime.inputs.features import MOST_SNIPPETS
from tests.runtime.helpers import make_fifo, no_waiting, npy_bytes

C = 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "video.npy"


def some(T: int = 5, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(T).standard_normal((T, C)).astype(dtype)


def refused(path: Path, match: str) -> None:
    with pytest.raises(FeatureError, match=match) as caught:
        read_features(path, C)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("snippets", [1, 16, 256, 257, 5000])
def test_a_sample_of_a_file_is_that_of_its_array(snippets: int, order: Literal["C", "F"], tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((snippets, 16)).astype(np.float16)
    np.save(tmp_path / "v.npy", np.asarray(features, order=order))
    with open_features(tmp_path / "v.npy", 16) as file:
        found = file.summarise()
        np.testing.assert_array_equal(file.read(), features, "the position in the file does not matter")
    expected = summarise_features(features)
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found.direction, expected.direction, rtol=1e-5)
    assert (found.snippets, found.zero_rows) == (expected.snippets, expected.zero_rows)
    assert found.norm == pytest.approx(expected.norm)
    assert (found.transposed is None) == (snippets != 16)


def test_a_file_that_is_cut_while_it_is_sampled_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((100, 4), np.float32))
    with open_features(tmp_path / "v.npy", 4) as file:
        os.truncate(tmp_path / "v.npy", 500)
        with pytest.raises(FeatureError, match="changed while it was read"):
            file.summarise()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f2", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_every_precision_and_layout(path: Path, dtype: str, order: Any) -> None:
    expected = some(7, dtype)
    np.save(path, np.asarray(expected, order=order))
    features = read_features(path, C)
    np.testing.assert_array_equal(features, expected)
    assert features.dtype == np.dtype(dtype).newbyteorder("=")


def test_reads_versions_1_and_2_of_the_format(path: Path) -> None:
    for version in ((1, 0), (2, 0)):
        with path.open("wb") as file:
            np.lib.format.write_array(file, some(), version=version)
        np.testing.assert_array_equal(read_features(path, C), some())
    with path.open("wb") as file:
        np.lib.format.write_array(file, some(), version=(3, 0))
    refused(path, "unknown version")


def test_one_snippet_is_enough(path: Path) -> None:
    np.save(path, some(1))
    assert read_features(path, C).shape == (1, C)


def test_refuses_pickled_objects_without_loading_them(path: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    np.save(path, np.array([[Trap()] * C], dtype=object), allow_pickle=True)
    refused(path, "pickled objects, which are never loaded")
    array = np.array([[Trap()] * C], dtype=object)
    path.write_bytes(array.dumps())
    refused(path, "a pickle, which is never loaded")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (some().T, r"shape \(16, 5\), expected \(snippets, 16\); transpose it: features\.T"),
        (some()[:, :15], r"shape \(5, 15\), expected \(snippets, 16\); this bundle was exported for 16-wide"),
        (
            np.stack([some()] * 3, axis=1),
            r"shape \(5, 3, 16\).*; 3 crops of each snippet\? .* features\.mean\(axis=1\)",
        ),
        (
            np.stack([some()] * 3, axis=0),
            r"shape \(3, 5, 16\).*; 3 crops of each snippet\? .* features\.mean\(axis=0\)",
        ),
        (np.zeros((5, 16, 7, 7), "float32"), r"shape \(5, 16, 7, 7\).*; maps or tokens of an image\?"),
        (some()[0], r"shape \(16,\), expected \(snippets, 16\)"),
        (np.float32(1), r"shape \(\), expected \(snippets, 16\)"),
        (some(0), "0 snippets, expected 1 to"),
        (some().astype(np.int64), "type int64, expected float16, float32 or float64"),
        (some().astype(np.complex64), "type complex64"),
        (some().astype(np.longdouble), "type float128"),
        (some() > 0, "type bool"),
        (some().astype("U3"), "type <U3"),
        (some().view([("x", "<f4"), ("y", "<f4")]), "type"),
    ],
)
def test_refuses_what_are_no_features(path: Path, array: NDArray[Any], message: str) -> None:
    np.save(path, array)
    refused(path, message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_says_where_a_number_is_not_finite(path: Path, value: float) -> None:
    features = some(9)
    features[[3, 6, 6], [0, 1, 5]] = value
    np.save(path, features)
    refused(path, r"NaN or infinity.* in 2 of 9 snippets, the first is snippet 3;")


@pytest.mark.parametrize(("descr", "bits"), [("'<f2'", 0x7C01), ("'<f4'", 0x7F800001), ("'<f8'", 0x7FF0000000000001)])
def test_refuses_nan_that_signals_without_a_warning(path: Path, descr: str, bits: int) -> None:
    item = int(descr[3])
    data = bytes(item) + bits.to_bytes(item, "little") + bytes(item * (C - 2))
    path.write_bytes(npy_bytes(f"(1, {C})", data, descr=descr))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(path, "NaN or infinity.* in 1 of 1 snippets")


def test_refuses_truncated_and_too_long_files(path: Path) -> None:
    np.save(path, some())
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    refused(path, "truncated, 319 bytes of data, its header promises 320")
    path.write_bytes(data + b"\0")
    refused(path, "too long, 321 bytes of data, its header promises 320")
    for size in range(1, len(data) - 320, 7):
        path.write_bytes(data[:size])
        refused(path, r"not a \.npy file|broken \.npy header")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (f"({MOST_SNIPPETS}, 16)", "truncated, 64 bytes of data, its header promises 68,719,476,736"),
        (f"({10**18}, 16)", "snippets, expected 1 to"),
        (f"({10**25}, 16)", "broken"),
        (f"(0x{'f' * 3900}, 16)", "broken"),
        ("(16if 1else 2, 16)", "broken"),
        (f"({MOST_SNIPPETS + 1}, 16)", "1,073,741,825 snippets, expected 1 to 1,073,741,824"),
        ("(-1, 16)", "-1 snippets"),
        ("(-1, -16)", r"shape \(-1, -16\)"),
        ("(0, 16)", "0 snippets"),
        ("(True, 16)", "broken|expected"),
        ("(1.0, 16)", "broken"),
        ("16", "broken"),
        ("__import__('os').getpid()", "broken"),
        ("(" * 200 + ")" * 200, "broken"),
    ],
)
def test_refuses_crafted_headers(path: Path, shape: str, message: str) -> None:
    path.write_bytes(npy_bytes(shape, bytes(64)))
    refused(path, message)


@pytest.mark.parametrize("descr", ["'|O'", "'<f3'", "'nonsense'", "[('a', '<f4')]", "('<f4', (2,))", "7"])
def test_refuses_crafted_types(path: Path, descr: str) -> None:
    path.write_bytes(npy_bytes("(1, 16)", bytes(64), descr=descr))
    refused(path, "type|broken|pickled")


@pytest.mark.parametrize("version", [(b"\x01\x00", b"\xff\xff"), (b"\x02\x00", b"\xff\xff\xff\xff")])
def test_takes_no_memory_for_a_header_that_says_it_is_long(path: Path, version: tuple[bytes, bytes]) -> None:
    path.write_bytes(b"\x93NUMPY" + b"".join(version) + b"{'descr': '<f4'")
    tracemalloc.start()
    try:
        refused(path, r"broken \.npy header")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_reads_headers_that_python_2_wrote(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise AssertionError("warning filters belong to the whole process, with all its threads")

    path.write_bytes(npy_bytes("(5L, 16L)", some().tobytes()))
    with monkeypatch.context() as patch:  # pytest and numpy catch warnings themselves
        patch.setattr(warnings, "catch_warnings", fail)
        features = read_features(path, C)
    np.testing.assert_array_equal(features, some())


def test_refuses_other_files(path: Path, tmp_path: Path) -> None:
    refused(path, "No such file")
    refused(tmp_path, "directory")
    path.write_bytes(b"")
    refused(path, r"not a \.npy file")


def test_does_not_wait_for_a_fifo(path: Path) -> None:
    with no_waiting():
        refused(make_fifo(path), "not a regular file|not a .npy file")


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: bytes, magic: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + data if magic else data)
    with pytest.raises(FeatureError):
        read_features(path, C)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_changed_header_raises_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.npy"
    buffer = io.BytesIO()
    np.save(buffer, some())
    content = bytearray(buffer.getvalue())
    for position in data.draw(st.lists(st.integers(0, 127), min_size=1, max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        features = read_features(path, C)
    except FeatureError:
        return
    assert features.ndim == 2
    assert features.shape[1] == C


@pytest.mark.parametrize("change", [lambda file: file.truncate(200), lambda file: file.write(b"x" * 64)])
def test_a_file_that_changes_while_it_is_read_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[BinaryIO], object]
) -> None:
    """It is an error of this one video, not a bug, whatever numpy raises."""
    np.save(path, np.ones((20, 16), np.float32))

    def meanwhile(*_arguments: object) -> None:
        with open(path, "ab") as file:
            change(file)

    monkeypatch.setattr(feature_file, "require_memory", meanwhile)
    refused(path, "changed while it was read; wait until it is written")


def test_no_header_makes_python_warn(path: Path) -> None:
    for descr in ("'\\<f4'", "'<f4' if 1else 2"):
        path.write_bytes(npy_bytes("(1, 16)", bytes(64), descr=descr))
        refused(path, "broken")


def read_in_blocks(path: Path) -> list[NDArray[Any]]:
    with open_features(path, C) as file:
        blocks = list(file.blocks())
        assert len(blocks) == file.block_count
        assert file.snippets == sum(map(len, blocks))
        return blocks


@pytest.mark.parametrize("dtype", ["float16", ">f4", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("snippets", [1, 99, 100, 101, 350])
def test_blocks_are_the_video(
    path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, order: Any, snippets: int
) -> None:
    monkeypatch.setattr(feature_file, "BLOCK_BYTES", 100 * C * np.dtype(dtype).itemsize)
    expected = some(snippets, dtype)
    np.save(path, np.asarray(expected, order=order))
    blocks = read_in_blocks(path)
    assert [len(block) for block in blocks] == [100] * (snippets // 100) + [snippets % 100] * (snippets % 100 > 0)
    np.testing.assert_array_equal(np.concatenate(blocks), expected)
    assert all(block.dtype == np.dtype(dtype).newbyteorder("=") for block in blocks)


def test_blocks_take_no_memory_for_the_whole(path: Path) -> None:
    features = np.ones((1_000_000, C), np.float16)
    np.save(path, features)
    tracemalloc.start()
    try:
        with open_features(path, C) as file:
            assert sum(len(block) for block in file.blocks()) == len(features)
        assert tracemalloc.get_traced_memory()[1] < features.nbytes
    finally:
        tracemalloc.stop()


def test_a_bad_value_in_the_last_block_is_found_before_the_first_is_returned(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_file, "BLOCK_BYTES", 100 * C * 4)
    features = some(350)
    features[[340, 345], 2] = np.inf
    np.save(path, features)
    with (
        open_features(path, C) as file,
        pytest.raises(FeatureError, match=r"NaN or infinity.* in 2 of 350 snippets, the first is snippet 340;"),
    ):
        next(file.blocks())


@pytest.mark.parametrize("change", [lambda file: file.truncate(200), lambda file: file.write(b"x" * 64)])
def test_a_file_that_changes_while_its_blocks_are_read_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[BinaryIO], object]
) -> None:
    monkeypatch.setattr(feature_file, "BLOCK_BYTES", 100 * C * 4)
    np.save(path, some(350))
    with open_features(path, C) as file:
        blocks = file.blocks()
        next(blocks)
        with open(path, "ab") as other:
            change(other)
        with pytest.raises(FeatureError, match="changed while it was read; wait until it is written"):
            list(blocks)


def test_a_value_that_is_overwritten_meanwhile_does_not_reach_the_network(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_file, "BLOCK_BYTES", 100 * C * 4)
    np.save(path, some(350))
    with open_features(path, C) as file:
        blocks = file.blocks()
        next(blocks)
        other = np.load(path, mmap_mode="r+")
        other[150:300] = np.nan
        other.flush()
        with pytest.raises(FeatureError, match="NaN or infinity"):
            next(blocks)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1, 5, 16), (5, 1, 16), (5, 16, 1, 1), (1, 5, 1, 16)])
def test_axes_of_length_1_are_left_out_and_told_of(path: Path, shape: tuple[int, ...], order: Any) -> None:
    np.save(path, np.asarray(some().reshape(shape), order=order))
    np.testing.assert_array_equal(read_features(path, C), some())
    with open_features(path, C) as file:
        assert file.note == f"{path}: shape {shape} is taken as (5, 16)"
    np.save(path, some())
    with open_features(path, C) as file:
        assert file.note is None
    np.save(path, some(1)[None])
    assert read_features(path, C).shape == (1, C)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P", "a file of torch.save, .*torch.load"),
        (b"\x80\x04\x95", "a pickle, which is never loaded"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, .*h5py"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file, .*loadmat"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
        (b"0.25,-1e-3,0.5\n", "text, .*loadtxt"),
        (b"hello", r"not a \.npy file"),
    ],
)
def test_other_formats_are_called_by_name(path: Path, start: bytes, says: str) -> None:
    path.write_bytes(start + bytes(50))
    refused(path, says)
