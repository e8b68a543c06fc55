"""The masks of the deployed graph: what it gives instead of all of them is what follows from all of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from stale_export.graph_builder import serialize
from stale_export.localizer_graph import localizer_model
from stale_export.mask_nodes import CANDIDATES, LIMIT, choose_mask_nodes
from stale_export.parity import draw_features
from stale_model import Stale
from stale_model.network.stale import resample_rows
from stale_runtime.bundle import layout
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.decoding.mask_interpolation import interpolate_masks, most_exact_rows
from stale_runtime.inference.forward_pass import Outputs, read_outputs
from tests import tiny
from tests.export.graphs import NODES, draw_prompts, inputs_for, run_network
from tests.export.test_localizer_graph import make_network

C = tiny.CHANNELS
Run = Callable[[Tensor], list[Outputs]]


def runner(network: Stale) -> Run:
    session = open_session(serialize(localizer_model(network)), name="localizer", threads=1)

    def run(features: Tensor) -> list[Outputs]:
        inputs = inputs_for(network, features, draw_prompts(2, C))
        names = layout.LOCALIZER_OUTPUTS
        return read_outputs(dict(zip(names, session.run(names, inputs), strict=True)))

    return run


@pytest.fixture(scope="module")
def network() -> Stale:
    return make_network()


@pytest.fixture(scope="module")
def run(network: Stale) -> Run:
    return runner(network)


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("T", [16, 100, 299, most_exact_rows(100, NODES), most_exact_rows(100, NODES) + 1])
def test_kept_snippets_and_their_mean_mask_are_those_of_all_masks(network: Stale, run: Run, B: int, T: int) -> None:
    features = draw_features(network, B, T)
    _, masks = run_network(network, features, draw_prompts(2, C))
    for found, full in zip(run(features), map(FullMasks, masks), strict=True):
        np.testing.assert_array_equal(found.masks.kept, full.kept)
        np.testing.assert_allclose(found.masks.kept_mask, full.kept_mask, rtol=0, atol=1e-5)
        some = np.array([T - 1, 0, T // 3])
        np.testing.assert_allclose(found.masks.rows(some), full.rows(some), rtol=0, atol=1e-5)


@pytest.mark.parametrize("T", [16, 77, 100, most_exact_rows(100, NODES) + 100])
@pytest.mark.parametrize("B", [1, 2])
def test_of_equal_masks_at_least_one_is_kept(T: int, B: int) -> None:
    """Rounding decides which, also in the network itself, but for the trained length."""
    network = make_network()
    with torch.no_grad():
        network.mask_localizer.kernel[:] = network.mask_localizer.kernel[0].clone()  # (T0, M), all rows equal
    for found in runner(network)(torch.randn(B, T, C, generator=torch.Generator().manual_seed(T))):
        assert found.masks.kept.all() if T == 100 else found.masks.kept.any()
        np.testing.assert_allclose(found.masks.kept_mask, found.masks.rows(np.array([0]))[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("T0", [16, 48, 100, 333])
def test_at_the_trained_length_nothing_is_interpolated(T0: int) -> None:
    for weights in interpolate_masks(T0, T0, NODES):
        np.testing.assert_array_equal(weights, np.eye(T0))


@pytest.mark.parametrize("T", [16, 64, 99, 101, 200, 777, 4096])
def test_rows_are_interpolated_as_the_networks_are(T: int) -> None:
    kernel = make_network().mask_localizer.kernel.detach()  # (T0, M)
    rows = interpolate_masks(100, T, None).rows
    np.testing.assert_allclose(rows @ kernel.numpy(), resample_rows(kernel, T).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("changes", "nodes"), [({}, 8), ({"heads": 3}, 12), ({"temporal_scale": 1000}, None)])
def test_a_network_gets_the_fewest_nodes_that_suffice(changes: dict[str, int], nodes: int | None) -> None:
    assert choose_mask_nodes(make_network(**changes)) == nodes


def test_a_network_whose_masks_change_abruptly_gets_all_rows() -> None:
    network = make_network()
    with torch.no_grad():
        network.mask_localizer.kernel.mul_(100)
    assert choose_mask_nodes(network) is None


@pytest.mark.parametrize("nodes", CANDIDATES)
def test_a_mean_that_changes_smoothly_is_met_between_nodes(nodes: int) -> None:
    T0, T = 20, 20 * 16
    _, lift = interpolate_masks(T0, T, nodes)
    places = interpolate_masks(T0, T, nodes).rows @ np.arange(T0)  # (P,) of the nodes among the trained rows
    wanted = interpolate_masks(T0, T, None).rows @ np.arange(T0)  # (T,)
    assert len(places) == most_exact_rows(T0, nodes) < T
    off = np.abs(lift @ (places / T0) ** 3 - (wanted / T0) ** 3).max()
    assert off < LIMIT
