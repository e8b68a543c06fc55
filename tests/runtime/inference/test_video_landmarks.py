import numpy as np

from stale_runtime.bundle import layout
from stale_runtime.inference.video_landmarks import pooling_weights, spaced_snippets


def test_the_landmarks_are_equal_stretches() -> None:
    weights = pooling_weights(35)
    assert weights.shape == (17, 35)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert set((weights[1:] > 0).sum(axis=1)) == {2, 3}
    assert ((weights[1:] > 0).sum(axis=0) == 1).all()
    np.testing.assert_array_equal(pooling_weights(layout.SHORTEST)[1:], np.eye(layout.SHORTEST))
    assert list(spaced_snippets(80)) == [10, 30, 50, 70]
