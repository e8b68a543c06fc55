import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.decoding.action_masks import FullMasks, SparseMasks, all_rows


def test_keeps_snippets_whose_masks_are_large() -> None:
    masks = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.1], [0.5, 0.6, 0.7]], dtype=np.float32)
    np.testing.assert_array_equal(FullMasks(masks).kept, [True, False, True])


@given(st.floats(0, 1, width=32), st.integers(1, 60))
def test_keeps_all_snippets_of_equal_masks(mask: float, T: int) -> None:
    assert FullMasks(np.full((T, T), mask, dtype=np.float32)).kept.any()


@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.integers(1, 60))
def test_any_row_follows_from_the_two_trained_ones_beside_it(seed: int, T0: int, T: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 200, (T0, T)).astype(np.float32)
    sparse = SparseMasks(kept=np.ones(T, np.bool_), kept_mask=np.ones(T), logits=logits)
    places = np.clip((np.arange(T) + 0.5) * T0 / T - 0.5, 0, T0 - 1)
    expected = [np.interp(places, np.arange(T0), column) for column in logits.T.astype(np.float64)]
    masks = 0.5 * (1 + np.tanh(np.stack(expected, axis=1) / 2))  # (T, T)
    np.testing.assert_allclose(all_rows(sparse), masks, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(sparse.rows(np.array([T - 1, 0])), all_rows(sparse)[[T - 1, 0]])
