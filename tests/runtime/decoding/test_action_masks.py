import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.decoding.action_masks import FullMasks


def test_keeps_snippets_whose_masks_are_large() -> None:
    masks = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.1], [0.5, 0.6, 0.7]], dtype=np.float32)
    np.testing.assert_array_equal(FullMasks(masks).kept, [True, False, True])


@given(st.floats(0, 1, width=32), st.integers(1, 60))
def test_keeps_all_snippets_of_equal_masks(mask: float, T: int) -> None:
    assert FullMasks(np.full((T, T), mask, dtype=np.float32)).kept.any()
