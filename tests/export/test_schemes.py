from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_export.graph_builder import serialize
from stale_export.graph_runner import localize_video
from stale_export.localizer_graph import LINEARS, localizer_model
from stale_export.quantization import dynamic_schemes
from stale_export.schemes import PORTABLE_BITS, TARGETS, VNNI_BITS, Scheme, StaticScheme, bits_for
from stale_model import read_original_checkpoint
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.errors import ExportError
from tests import tiny
from tests.export.graphs import whole_outputs
from tests.export.int8 import (
    EXACT,
    SATURATING,
    Array,
    Integers,
    draw_videos,
    encode,
    exact_product,
    linear_weights,
    run_emulated,
    saturating_product,
)


def stress(M: int, rows: int = 8) -> Integers:
    """Activations (rows, M): all at the largest byte, pairs at it, and random ones."""
    activations = np.random.default_rng(0).integers(0, 256, (rows, M))
    activations[0] = 255
    activations[1] = np.tile([255, 255, 0, 0], M // 4 + 1)[:M]
    return activations


def assert_cannot_saturate(weights: Array) -> None:
    portable, _ = Scheme(weight_bits=PORTABLE_BITS).quantize(weights)
    activations = stress(len(weights))
    np.testing.assert_array_equal(saturating_product(activations, portable), exact_product(activations, portable))
    full, _ = Scheme(weight_bits=VNNI_BITS).quantize(weights)
    wrong = saturating_product(activations, full) != exact_product(activations, full)
    assert wrong[0].any(), "weights of 8 bits saturate, or this shows nothing"


def test_the_worst_pair_of_products_fits_16_bits_with_7_bits_and_not_with_8() -> None:
    pairs = {bits: 2 * 255 * (2 ** (bits - 1) - 1) for bits in (PORTABLE_BITS, VNNI_BITS)}
    assert pairs[PORTABLE_BITS] <= 2**15 - 1 < pairs[VNNI_BITS]
    for bits, most in pairs.items():
        weights = np.full((2, 1), 2 ** (bits - 1) - 1, np.int8)
        assert exact_product(np.full((1, 2), 255), weights) == most
        assert saturating_product(np.full((1, 2), 255), weights) == min(most, 2**15 - 1)
        assert saturating_product(np.full((1, 2), 255), -weights) == max(-most, -(2**15))


def test_the_emulation_takes_an_odd_inner_axis() -> None:
    weights = np.array([[100], [-3], [127]], np.int8)
    np.testing.assert_array_equal(
        saturating_product(np.array([[255, 9, 255]]), weights), [[255 * 100 - 27 + 255 * 127]]
    )


@pytest.mark.parametrize("linear", LINEARS)
def test_no_product_of_the_tiny_network_can_saturate(linear: str) -> None:
    assert_cannot_saturate(linear_weights(tiny.make_network())[linear])


@pytest.fixture(scope="module")
def reference_weights(reference: Path) -> dict[str, Array]:
    return linear_weights(read_original_checkpoint(reference / "best.pth", str(reference / "clip")).network)


@pytest.mark.reference
@pytest.mark.parametrize("linear", LINEARS)
def test_no_product_of_the_reference_network_can_saturate(reference_weights: dict[str, Array], linear: str) -> None:
    assert_cannot_saturate(reference_weights[linear])


@pytest.mark.parametrize(("bits", "exact"), [(PORTABLE_BITS, True), (VNNI_BITS, False)])
def test_the_whole_graph_says_the_same_on_a_cpu_without_vnni(bits: int, exact: bool) -> None:
    network = tiny.make_network()
    prompts, features = encode(network), draw_videos(1)["video0"]
    with_vnni, without = (
        run_emulated(network, features, prompts, kernels, bits=bits) for kernels in (EXACT, SATURATING)
    )
    for ours, theirs in zip(with_vnni, without, strict=True):
        assert np.array_equal(ours, theirs) == exact
    if not exact:
        return
    schemes = dynamic_schemes(bits)
    session = open_session(serialize(localizer_model(network, schemes)), name="here", threads=1)
    here = whole_outputs(localize_video(session, features, prompts))
    for ours, theirs in zip(here, without, strict=True):
        assert np.abs(ours - theirs).mean() < 1e-3 * ours.std()


@pytest.mark.parametrize("bits", [4, PORTABLE_BITS, VNNI_BITS])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_weights_are_rounded_to_the_nearest_step_of_their_column(bits: int, data: st.DataObject) -> None:
    M, N = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5))
    values = st.lists(st.floats(-1e3, 1e3, width=32), min_size=M * N, max_size=M * N)
    weights = np.array(data.draw(values), np.float32).reshape(M, N)
    integers, step = Scheme(weight_bits=bits).quantize(weights)
    most = 2 ** (bits - 1) - 1
    assert (integers.dtype.name, step.dtype.name, step.shape) == ("int8", "float32", (N,))
    assert np.abs(integers.astype(int)).max() <= most
    assert (np.abs(integers * step.astype(np.float64) - weights) <= 0.5001 * step).all()
    used = np.abs(weights).max(axis=0) > 1e-30
    assert (np.abs(integers.astype(int)).max(axis=0)[used] == most).all()
    np.testing.assert_array_equal(Scheme(weight_bits=bits).quantize(-weights)[0], -integers)


def test_a_column_of_zeros_stays_zero() -> None:
    integers, step = Scheme().quantize(np.array([[0, 2], [0, -2]], np.float32))
    assert integers.tolist() == [[0, 63], [0, -63]]
    assert np.isfinite(step).all()


@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32))
def test_a_range_is_covered_and_zero_is_a_byte_of_its_own(a: float, b: float) -> None:
    scheme = StaticScheme.over(min(a, b), max(a, b), PORTABLE_BITS)
    values = (np.arange(256) - scheme.zero_point) * scheme.scale
    assert 0 <= scheme.zero_point <= 255
    assert values[scheme.zero_point] == 0
    for end in (a, b):
        assert np.abs(values - end).min() <= 0.51 * scheme.scale + 1e-30
    assert scheme.weight_bits == PORTABLE_BITS


@pytest.mark.parametrize("ends", [(float("nan"), 1.0), (0.0, float("nan")), (float("-inf"), 1.0), (0.0, float("inf"))])
def test_a_range_that_is_not_finite_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="activations from"):
        StaticScheme.over(*ends, PORTABLE_BITS)


def test_a_target_has_its_bits_and_refuses_what_saturates() -> None:
    assert {target: bits_for(target) for target in TARGETS} == {"portable": 7, "vnni": 8}
    assert bits_for("vnni", 8) == 8
    assert bits_for("portable", 5) == bits_for("vnni", 5) == 5
    with pytest.raises(ExportError, match=r"--weight-bits 8 with --target portable.*saturate.*--target vnni"):
        bits_for("portable", 8)
