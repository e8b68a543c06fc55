import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.inputs.features import resample_for_graph, rows_read

CHANNELS = 16


@pytest.mark.parametrize(
    ("snippets", "length", "rows"), [(921, 100, 200), (300, 100, 100), (200, 100, 200), (100, 100, 100), (7, 100, 7)]
)
def test_a_long_video_is_read_at_two_rows_for_each_snippet(snippets: int, length: int, rows: int) -> None:
    assert len(rows_read(snippets, length, 512)) == rows


@given(st.integers(1, 300), st.integers(16, 200))
def test_no_other_row_is_read(snippets: int, length: int) -> None:
    features = np.random.default_rng(0).standard_normal((snippets, CHANNELS)).astype(np.float16)
    rows = rows_read(snippets, length, CHANNELS)
    some = np.zeros_like(features)
    some[rows] = features[rows]
    assert np.array_equal(resample_for_graph(some, length), resample_for_graph(features, length))


@given(st.integers(1, 300), st.integers(16, 200))
def test_each_of_them_is_read(snippets: int, length: int) -> None:
    zeros = np.zeros((snippets, CHANNELS), np.float16)
    for row in rows_read(snippets, length, CHANNELS)[:: max(snippets // 20, 1)]:
        one = zeros.copy()
        one[row] = 1
        assert resample_for_graph(one, length).any()
