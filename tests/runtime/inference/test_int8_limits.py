"""How far from the recording an int8 graph may be: another CPU's way to round passes, a wrong product does not."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from stale_export.localizer_graph import cross_queries
from stale_export.parity import draw_features
from stale_export.schemes import PORTABLE_BITS, VNNI_BITS
from stale_model import Stale, read_original_checkpoint
from stale_runtime.bundle import layout
from stale_runtime.inference.bundle_check import FARTHER, INT8_SHARE, REPLAY_SHARE, compare_int8
from stale_runtime.inference.forward_pass import EncodedPrompts
from tests import tiny
from tests.export.graphs import all_graphs, draw_prompts
from tests.export.int8 import BY_ROWS, SATURATING, Array, run_emulated

Edit = Callable[[onnx.ModelProto], None]
NETWORK, EXPORT = "mean deviation", "mean deviation from the export"


class Emulated:
    """A network's outputs for one video, in float and in integers."""

    def __init__(self, network: Stale, bits: int) -> None:
        config = network.config
        features, embeddings = draw_features(network, 1, config.temporal_scale), draw_prompts(8, config.channels)
        with torch.no_grad():
            float_outputs = network.localize(features, network.with_background(embeddings))
        prompts = EncodedPrompts((), embeddings.numpy(), cross_queries(network, embeddings).numpy())
        self.run = partial(run_emulated, network, features[0].numpy(), prompts, bits=bits)
        self._float = [float_outputs.cas_logits[0].numpy(), float_outputs.action_masks[0].numpy()]
        self.exported = self.run()

    def failures(self, got: Sequence[Array], *, rounds_alike: bool = False) -> set[str]:
        """The measures by which another CPU's outputs fail, if the bundle was exported on one with exact products."""
        outputs = zip(layout.FULL_MASK_OUTPUTS, got, self._float, self.exported, strict=True)
        checks = [
            check
            for name, *arrays in outputs
            for check in compare_int8("graph", name, *arrays, rounds_alike=rounds_alike)
        ]
        assert len(checks) == 4
        return {check.measure for check in checks if not check.passed}


def multiply(weight: str, by: float) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        tensors = (tensor for graph in all_graphs(model.graph) for tensor in graph.initializer)
        (tensor,) = (tensor for tensor in tensors if tensor.name.split("/")[-1] == weight)
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array((values * np.float32(by)).astype(values.dtype), tensor.name))

    return edit


def assert_limits_hold(network: Emulated, saturating: set[str]) -> None:
    assert network.failures(network.exported) == set()
    by_rows = network.run(BY_ROWS)
    assert network.failures(by_rows) == set()
    assert EXPORT in network.failures(by_rows, rounds_alike=True)
    assert network.failures(network.run(SATURATING)) == saturating


@pytest.mark.parametrize(("bits", "saturating"), [(PORTABLE_BITS, set()), (VNNI_BITS, {NETWORK, EXPORT})])
def test_another_rounding_passes_and_saturation_fails(bits: int, saturating: set[str]) -> None:
    assert_limits_hold(Emulated(tiny.make_network(), bits), saturating)


@pytest.mark.reference
def test_so_it_is_with_the_reference_network(reference: Path) -> None:
    network = read_original_checkpoint(reference / "best.pth", str(reference / "clip")).network
    assert_limits_hold(Emulated(network, VNNI_BITS), {NETWORK, EXPORT})


@pytest.fixture(scope="module")
def portable() -> Emulated:
    return Emulated(tiny.make_network(), PORTABLE_BITS)


@pytest.mark.parametrize(
    ("weight", "by"),
    [
        ("embedding.output.scale", 1.2),
        ("masks.hidden.scale", 1.2),
        ("adaptation.output.scale", 1.2),
        ("masks.hidden", 0),
        ("adaptation.output", -1),
    ],
)
def test_wrong_products_fail(portable: Emulated, weight: str, by: float) -> None:
    assert portable.failures(portable.run(edit=multiply(weight, by))) == {NETWORK, EXPORT}


def limits(error: float, *, rounds_alike: bool) -> Mapping[str, float | None]:
    """The limits of an output with standard deviation 1, if the graph was so far from the network at the export."""
    network: NDArray[np.float32] = np.array([[-1.0, 1.0]], np.float32)
    exported = network + np.float32(error)
    checks = compare_int8("graph", "output", exported, network, exported, rounds_alike=rounds_alike)
    return {check.measure: check.limit for check in checks}


@pytest.mark.parametrize(("error", "farther"), [(0.0, REPLAY_SHARE), (0.02, 0.02 * FARTHER), (0.5, INT8_SHARE)])
def test_the_limits_follow_from_the_distance_at_the_export(error: float, farther: float) -> None:
    alike, otherwise = limits(error, rounds_alike=True), limits(error, rounds_alike=False)
    assert alike[NETWORK] == otherwise[NETWORK] == pytest.approx(farther, rel=1e-5)
    assert alike[EXPORT] == pytest.approx(REPLAY_SHARE)
    assert otherwise[EXPORT] == pytest.approx(max(REPLAY_SHARE, FARTHER * error), rel=1e-5)
