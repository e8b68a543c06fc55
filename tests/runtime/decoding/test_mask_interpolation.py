import numpy as np
import pytest
import torch

from stale_model.network.stale import resample_rows
from stale_runtime.decoding.mask_interpolation import interpolate_masks, most_exact_rows


@pytest.mark.parametrize("T0", [16, 48, 100, 333])
def test_at_the_trained_length_nothing_is_interpolated(T0: int) -> None:
    for weights in interpolate_masks(T0, T0, 12):
        np.testing.assert_array_equal(weights, np.eye(T0))


@pytest.mark.parametrize("T", [16, 64, 99, 101, 200, 777, 4096])
def test_rows_are_interpolated_as_the_networks_are(T: int) -> None:
    kernel = torch.randn(100, 4, generator=torch.Generator().manual_seed(T))  # (T0, M)
    rows = interpolate_masks(100, T, None).rows
    np.testing.assert_allclose(rows @ kernel.numpy(), resample_rows(kernel, T).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("nodes", [4, 6, 8, 12])
def test_a_mean_that_changes_smoothly_is_met_between_nodes(nodes: int) -> None:
    T0, T = 20, 20 * 16
    _, lift = interpolate_masks(T0, T, nodes)
    places = interpolate_masks(T0, T, nodes).rows @ np.arange(T0)  # (P,) of the nodes among the trained rows
    wanted = interpolate_masks(T0, T, None).rows @ np.arange(T0)  # (T,)
    assert len(places) == most_exact_rows(T0, nodes) < T
    off = np.abs(lift @ (places / T0) ** 3 - (wanted / T0) ** 3).max()
    assert off < 1e-6
