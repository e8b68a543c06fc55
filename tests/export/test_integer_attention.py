"""Attention among the snippets in integers, against the float graph."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from stale_export import integer_attention
from stale_export.graph_builder import FLOAT, serialize
from stale_export.integer_attention import ATTENTION, attention_schemes
from stale_export.localizer_graph import localizer_model
from stale_export.quantization import count_integer_operators
from stale_export.schemes import PORTABLE_BITS
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.bundle.onnx_safety import refuse_unsafe
from stale_runtime.bundle.onnx_session import open_session
from tests import tiny
from tests.export.graphs import Array, all_graphs, draw_prompts, inputs_for
from tests.export.int8 import ruin

OUTPUTS = (layout.CAS_LOGITS, layout.MASK_LOGITS)
SHARE = 0.02
"""Largest deviation from float, as a share of what varies in the output; measured 0.0015 to 0.006."""
FEW = tiny.CHANNELS // 2
"""Snippets from which on resampled ones get attention in integers."""


@pytest.fixture(scope="module")
def network() -> Stale:
    return tiny.make_network()


@pytest.fixture(scope="module")
def model(network: Stale) -> bytes:
    return serialize(localizer_model(network, attention_schemes(PORTABLE_BITS)))


def draw(*shape: int, seed: int = 0) -> Array:
    """Features (B, S, C) of videos whose snippets resemble one another."""
    generator = np.random.default_rng(seed)
    B, _, C = shape
    return (2 * generator.standard_normal((B, 1, C)) + generator.standard_normal(shape)).astype(np.float32)


def run(network: Stale, model: bytes, features: Array, length: int | None = None) -> list[Array]:
    """Class activations (B, K+1, T) and logits of the masks (B, T0, T)."""
    inputs = inputs_for(network, torch.from_numpy(features), draw_prompts(3, tiny.CHANNELS), length)
    found: list[Array] = open_session(model, name="graph", threads=1).run(OUTPUTS, inputs)
    return found


def share_off(network: Stale, model: bytes, features: Array, length: int | None = None) -> float:
    """Root mean square deviation of the masks' logits from the float graph's, as a share of their spread."""
    exact = run(network, serialize(localizer_model(network, FLOAT)), features, length)[1]
    off = run(network, model, features, length)[1] - exact
    return float(np.sqrt((off**2).mean()) / exact.std())


@pytest.mark.parametrize(
    ("B", "S", "T"), [(1, 16, 16), (3, 16, 16), (2, 300, 300), (1, 1100, 1100), (2, 5, 40), (2, FEW, 40), (2, 90, 300)]
)
def test_it_is_float_attention_up_to_rounding(network: Stale, model: bytes, B: int, S: int, T: int) -> None:
    assert 0 < share_off(network, model, draw(B, S, tiny.CHANNELS), T) < SHARE


def test_every_layer_can_be_in_float_alone(network: Stale) -> None:
    schemes, features = attention_schemes(PORTABLE_BITS), draw(2, 60, tiny.CHANNELS)
    whole = share_off(network, serialize(localizer_model(network, schemes)), features)
    for layer in schemes:
        partly = serialize(localizer_model(network, {name: schemes[name] for name in schemes if name != layer}))
        assert count_integer_operators(partly) == 4
        assert 0 < share_off(network, partly, features) < 1.2 * whole
    alone = serialize(localizer_model(network, {ATTENTION: schemes[ATTENTION]}))
    assert count_integer_operators(alone) == 2
    assert 0 < share_off(network, alone, features) < whole


def test_a_wrong_scale_is_noticed(network: Stale, monkeypatch: pytest.MonkeyPatch) -> None:
    for layer in attention_schemes(PORTABLE_BITS):
        with monkeypatch.context() as patch:
            ruin(patch, layer, by=2)
            ruined = serialize(localizer_model(network, attention_schemes(PORTABLE_BITS)))
        assert share_off(network, ruined, draw(1, 60, tiny.CHANNELS)) > SHARE, layer


@pytest.mark.parametrize(("S", "T"), [(200, 200), (5, 40), (60, 300)])
def test_a_video_does_not_depend_on_the_others_of_a_batch(network: Stale, model: bytes, S: int, T: int) -> None:
    videos = draw(3, S, tiny.CHANNELS)
    videos[1] *= 50
    together = embed(network, model, videos, T)
    for number, video in enumerate(videos):
        np.testing.assert_array_equal(embed(network, model, video[None], T)[0], together[number])


def embed(network: Stale, model: bytes, features: Array, length: int) -> Array:
    """What attention makes of the snippets (B, T, C), before anything of the batch is computed in one product."""
    parsed = onnx.load_from_string(model)
    norm = next(node for node in parsed.graph.node if node.op_type == "LayerNormalization")
    parsed.graph.output.append(onnx.helper.make_tensor_value_info(norm.output[0], onnx.TensorProto.FLOAT, None))
    inputs = inputs_for(network, torch.from_numpy(features), draw_prompts(3, tiny.CHANNELS), length)
    found: Array = open_session(serialize(parsed), name="graph", threads=1).run([norm.output[0]], inputs)[0]
    return found


def test_one_far_snippet_does_not_ruin_a_video(network: Stale, model: bytes) -> None:
    features = draw(1, 200, tiny.CHANNELS)
    features[0, 77] *= 5
    assert share_off(network, model, features) < 0.2  # a range that leaves it out gives 1


def test_equal_snippets_and_zeros_have_a_step_too(network: Stale, model: bytes) -> None:
    equal = np.tile(draw(1, 1, tiny.CHANNELS), (1, 40, 1))
    assert all(np.isfinite(output).all() for output in run(network, model, equal))
    assert all(np.isfinite(output).all() for output in run(network, model, 0 * equal))


def test_the_operators_are_allowed_and_keys_have_the_bits_of_the_target(network: Stale, model: bytes) -> None:
    refuse_unsafe(model, "graph")
    assert integer_attention.TILE_ROWS // network.config.heads < 300, "or no test above has several tiles"
    for bits, most in ((7, 63), (8, 127)):
        graph = localizer_model(network, attention_schemes(bits))
        numbers = [numpy_helper.to_array(number) for part in all_graphs(graph.graph) for number in part.initializer]
        assert np.float32(1 / most) in [number for number in numbers if number.shape == ()]
