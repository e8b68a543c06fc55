import gc

import numpy as np

from stale_runtime.inference import prompt_queries
from stale_runtime.inference.prompt_queries import split_queries, unchangeable

K, H, C = 3, 2, 4


def draw_queries() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((K, H * C)).astype(np.float32)


def test_mean_and_spread_are_the_queries() -> None:
    queries = draw_queries()
    mean, spread = split_queries(queries, C)
    again = (spread + mean[:, :, 0].T[:, None]).transpose(1, 0, 2).reshape(K, H * C)
    np.testing.assert_allclose(again, queries, atol=1e-6)
    np.testing.assert_allclose(spread.sum(axis=1), 0, atol=1e-5)
    assert mean.shape == (C, H, 1)
    assert mean.flags.c_contiguous
    assert spread.flags.c_contiguous


def test_queries_that_cannot_change_are_split_once() -> None:
    queries = unchangeable(draw_queries())
    assert split_queries(queries, C) is split_queries(queries, C)


def test_queries_that_can_change_are_split_each_time() -> None:
    queries = draw_queries()
    before = split_queries(queries, C).mean
    queries += 1
    np.testing.assert_allclose(split_queries(queries, C).mean, before + 1, atol=1e-6)


def test_nothing_is_kept_of_queries_that_are_gone() -> None:
    queries = unchangeable(draw_queries())
    key = id(queries)
    split_queries(queries, C)
    assert key in prompt_queries._known
    del queries
    gc.collect()
    assert key not in prompt_queries._known
