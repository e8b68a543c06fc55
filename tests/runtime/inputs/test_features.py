import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_runtime.errors import FeatureError
from stale_runtime.inputs.features import LARGEST_VALUE, MOST_SNIPPETS, check_features, cut_into_pieces, resample
from stale_runtime.segments import FloatArray

C = 16


def some(T: int = 5, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(T).standard_normal((T, C)).astype(dtype)


def test_checks_arrays_as_it_checks_files() -> None:
    assert check_features(some(), C).tobytes() == some().tobytes()
    with pytest.raises(FeatureError, match=r"features: shape \(16, 5\), .*features\.T"):
        check_features(some().T, C)
    with pytest.raises(FeatureError, match="my video: NaN"):
        check_features(np.full((1, C), np.nan), C, name="my video")


@pytest.mark.parametrize("value", [1.1e6, -1e39])
def test_refuses_numbers_that_overflow_in_the_network(value: float) -> None:
    features = some(5, "float64")
    features[2, 3] = value
    with pytest.raises(FeatureError, match=r"a value beyond ±1e\+06 in 1 of 5 snippets, the first is snippet 2;"):
        check_features(features, C)
    features[2, 3] = np.sign(value) * LARGEST_VALUE
    check_features(features, C)


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["float16", "float32", "float64"]))
def test_resampling_stays_within_the_range_of_each_channel(T0: int, length: int, dtype: str) -> None:
    features = some(T0, dtype)
    resampled = resample(features, length)
    assert resampled.shape == (length, C)
    assert resampled.dtype == np.float32
    assert (resampled >= features.min(axis=0).astype(np.float64) - 1e-6).all()
    assert (resampled <= features.max(axis=0).astype(np.float64) + 1e-6).all()


@given(st.integers(1, 60))
def test_resampling_to_the_same_length_changes_nothing(T0: int) -> None:
    np.testing.assert_array_equal(resample(some(T0), T0), some(T0))


def test_resampling_by_value() -> None:
    ramp = np.array([[0.0], [4.0], [8.0]])
    np.testing.assert_allclose(resample(ramp, 6)[:, 0], [0, 1, 3, 5, 7, 8], rtol=1e-6)
    np.testing.assert_allclose(resample(ramp, 1)[:, 0], [4])
    np.testing.assert_allclose(resample(ramp[:1] + 7, 4)[:, 0], [7, 7, 7, 7])


@pytest.mark.parametrize(("T0", "length"), [(1, 16), (7, 100), (333, 100), (100, 333), (3000, 16), (50, 4096)])
def test_resampling_is_what_pytorch_does(T0: int, length: int) -> None:
    """Builds of PyTorch differ in whether positions are rounded once, as ours, or after each step."""
    features, scale = some(T0), np.float32(T0) / np.float32(length)
    tensor = torch.from_numpy(features).T[None]  # (1, C, T0)
    expected = torch.nn.functional.interpolate(tensor, length, mode="linear", align_corners=False)[0].T.numpy()
    once = (np.float64(scale) * (np.arange(length) + 0.5) - 0.5).astype(np.float32)
    stepwise = scale * (np.arange(length, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    assert min(np.abs(at(features, position) - expected).max() for position in (once, stepwise)) < 1e-6
    np.testing.assert_allclose(resample(features, length), at(features, once), rtol=0, atol=1e-6)


def at(features: FloatArray, position: NDArray[np.float32]) -> NDArray[np.float64]:
    """Features at positions between snippets, (T, C)."""
    snippets = np.arange(len(features))
    return np.stack([np.interp(position, snippets, channel) for channel in features.T], axis=1)


def test_a_long_video_is_checked_without_a_copy_of_it() -> None:
    features = np.ones((100_000, C), np.float16)
    features[70_000, 3] = np.nan
    tracemalloc.start()
    try:
        with pytest.raises(FeatureError, match="in 1 of 100000 snippets, the first is snippet 70000;"):
            check_features(features, C)
        assert tracemalloc.get_traced_memory()[1] < features.nbytes
    finally:
        tracemalloc.stop()


def test_more_snippets_than_anybody_has_are_refused() -> None:
    features = np.broadcast_to(np.float32(1), (MOST_SNIPPETS + 1, C))
    with pytest.raises(FeatureError, match="1,073,741,825 snippets, expected 1 to 1,073,741,824; cut the video"):
        check_features(features, C)


@given(st.integers(1, 50), st.integers(1, 60))
def test_pieces_are_consecutive_and_of_one_size(T0: int, size: int) -> None:
    pieces = list(cut_into_pieces(some(T0), size))
    np.testing.assert_array_equal(np.concatenate(pieces), some(T0))
    assert {len(piece) for piece in pieces[:-1]} <= {size}
