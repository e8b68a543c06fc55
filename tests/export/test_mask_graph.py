"""The masks of the deployed graph: what it gives instead of all of them is what follows from all of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from stale_export.graph_builder import serialize
from stale_export.localizer_graph import localizer_model
from stale_export.parity import draw_features
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.decoding.mask_interpolation import most_exact_rows
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
