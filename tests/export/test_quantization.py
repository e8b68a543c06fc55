import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from stale_export import quantization
from stale_export.calibration import TAILS, Calibration
from stale_export.graph_builder import GraphBuilder, serialize
from stale_export.graph_runner import run_on_video
from stale_export.integer_attention import INTEGER_OPERATORS_BY_LAYER
from stale_export.localizer_graph import LAYERS, LINEARS, cross_queries, localizer_model, watched_name
from stale_export.quantization import QuantizedGraph, Quantizer, count_integer_operators
from stale_export.schemes import PORTABLE_BITS, DynamicScheme, Scheme, StaticScheme
from stale_export.validation_gate import MapGate, ValidationVideos, read_validation
from stale_model import Stale, read_original_checkpoint
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.errors import ExportError, QuantizationError
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.features import resample
from tests import tiny
from tests.export.int8 import (
    Array,
    calibration,
    draw_videos,
    encode,
    exact_product,
    ignore_scheme,
    initializers,
    linear_weights,
    ruin,
    write_validation,
)

FRAGILE = sorted(LINEARS)
WHOLE = 8
"""Integer operators of a graph with all layers in integers: two linear layers occur twice, and attention is two."""
FILE = "localizer.int8.onnx"
MakeQuantizer = Callable[..., Quantizer]
Kind = Callable[[Quantizer], QuantizedGraph]


def dynamic(quantizer: Quantizer) -> QuantizedGraph:
    return quantizer.dynamic(FILE)


def static(quantizer: Quantizer) -> QuantizedGraph:
    return quantizer.static(FILE, calibration(), encode(quantizer.network))


@dataclass(frozen=True, kw_only=True)
class FixedGate(MapGate):
    """Says what the mAP of a graph is instead of measuring it."""

    says: Callable[[bytes], float]

    def measure(self, model: bytes) -> float:
        return self.says(model)


KINDS = pytest.mark.parametrize("make", [dynamic, static], ids=["dynamic", "static"])


@pytest.fixture(scope="module")
def network() -> Stale:
    return tiny.make_network()


@pytest.fixture(scope="module")
def prompts(network: Stale) -> EncodedPrompts:
    return encode(network)


@pytest.fixture(scope="module")
def validation(network: Stale, prompts: EncodedPrompts, tmp_path_factory: pytest.TempPathFactory) -> ValidationVideos:
    annotations, features = write_validation(tmp_path_factory.mktemp("validation"), network, prompts)
    return read_validation(annotations, features, subset="validation", channels=tiny.CHANNELS, length=tiny.LENGTH)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def gate(network: Stale, prompts: EncodedPrompts, validation: ValidationVideos, said: list[str]) -> MakeQuantizer:
    """Makes quantizers that measure mAP."""

    def make(*, max_drop: float = 3.0, score: Callable[[bytes], float] | None = None, **options: Any) -> Quantizer:
        measured = MapGate(videos=validation, prompts=prompts, max_drop=max_drop)
        fixed = None if score is None else FixedGate(videos=validation, prompts=prompts, max_drop=max_drop, says=score)
        chosen: dict[str, Any] = {"gate": fixed or measured, **options}
        return Quantizer(network=network, say=said.append, **chosen)

    return make


# The integer product


def layer(weights: Array, scheme: Scheme) -> bytes:
    """A graph of one linear layer."""
    M, N = weights.shape
    graph = GraphBuilder(schemes={"layer": scheme})
    graph.name("y", graph.op("Identity", graph.linear("layer", "x", weights)))
    spec = GraphSpec(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("B", "T", M)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("B", "T", N)),),
    )
    return serialize(graph.model(spec))


def bytes_of(x: Array, scheme: Scheme) -> tuple[NDArray[np.uint8], np.float32, int]:
    """Activations as bytes, their step, and the byte that stands for zero, as ONNX defines them."""
    if isinstance(scheme, StaticScheme):
        step, zero = np.float32(scheme.scale), scheme.zero_point
    else:
        low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
        step = np.float32((high - low) / np.float32(255))
        zero = int(np.rint(-low / step).clip(0, 255))
    return (np.rint(x / step) + zero).clip(0, 255).astype(np.uint8), step, zero


def dequantized_product(x: Array, weights: Array, scheme: Scheme) -> NDArray[np.float64]:
    """What a layer has to compute: (N, M), (M, K) -> (N, K)."""
    rounded, weight_step = scheme.quantize(weights)
    found, step, zero = bytes_of(x, scheme)
    product = exact_product(found.astype(np.int64) - zero, rounded)
    return product * (np.float64(step) * weight_step)


def inputs_of_layers(network: Stale, prompts: EncodedPrompts) -> dict[str, Array]:
    """The real input of each layer, for one video."""
    session = open_session(serialize(localizer_model(network, watch=True)), name="watched", threads=1)
    names = [watched_name(linear) for linear in LINEARS]
    found = run_on_video(session, draw_videos(1)["video0"], prompts, names)
    return {linear: values[None] for linear, values in zip(LINEARS, found, strict=True)}


@pytest.mark.parametrize("linear", LINEARS)
@pytest.mark.parametrize("bits", [PORTABLE_BITS, 5])
@pytest.mark.parametrize("is_static", [False, True], ids=["dynamic", "static"])
def test_onnx_runtime_computes_the_integer_product(
    network: Stale, prompts: EncodedPrompts, linear: str, bits: int, is_static: bool
) -> None:
    weights, x = linear_weights(network)[linear], inputs_of_layers(network, prompts)[linear]
    inner = float(x.min()) / 2, float(x.max()) / 2  # so that some are beyond the range
    scheme = StaticScheme.over(*inner, bits) if is_static else DynamicScheme(weight_bits=bits)
    model = layer(weights, scheme)
    assert count_integer_operators(model) == 1
    (got,) = open_session(model, name="layer", threads=1).run(["y"], {"x": x})
    (by_definition,) = ReferenceEvaluator(onnx.load_from_string(model)).run(["y"], {"x": x})
    expected = dequantized_product(x[0], weights, scheme)
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(got[0], expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(np.asarray(by_definition)[0], expected, rtol=0, atol=tolerance)
    assert np.abs(expected - x[0].astype(np.float64) @ weights).max() > 100 * tolerance  # which float products would be
    step = scheme.quantize(weights)[1]
    found, byte_step, zero = bytes_of(x[0], scheme)
    one_more = np.abs(found[:, 0].astype(int) - zero).max() * byte_step * step[0]
    assert one_more > 10 * tolerance  # nor may a single weight be one step off


@KINDS
def test_the_graph_has_those_weights_and_steps(gate: MakeQuantizer, network: Stale, make: Kind) -> None:
    tensors = initializers(make(gate(gate=None)).model)
    for linear, weights in linear_weights(network).items():
        integers, step = Scheme(weight_bits=PORTABLE_BITS).quantize(weights)
        np.testing.assert_array_equal(tensors[linear], integers)
        np.testing.assert_array_equal(tensors[f"{linear}.scale"], step)
        assert np.abs(tensors[linear].astype(int)).max() == 63


# Proof in the graph


@KINDS
def test_the_record_says_what_was_made(gate: MakeQuantizer, make: Kind) -> None:
    graph = make(gate())
    record = graph.record
    assert record.integer_operators_expected == record.integer_operators_found == WHOLE
    assert count_integer_operators(graph.model) == WHOLE
    assert (record.file, record.target, record.weight_bits, record.float_layers) == (FILE, "portable", 7, ())
    assert record.kind == make.__name__
    assert record.map_percent is not None
    assert record.fp32_map_percent is not None
    assert record.fp32_map_percent > 50
    assert record.fp32_map_percent - record.map_percent <= 3
    if record.kind == "static":
        assert record.range_method in TAILS
        assert record.calibration_videos == tuple(sorted(calibration().features))
        assert record.calibration_seed == 0
    else:
        assert (record.range_method, record.calibration_videos, record.calibration_seed) == (None, (), None)


def test_without_validation_nothing_counts_as_proved(gate: MakeQuantizer) -> None:
    record = gate(gate=None).dynamic(FILE).record
    assert (record.map_percent, record.fp32_map_percent) == (None, None)


def test_the_range_method_is_the_one_that_deviates_least(
    gate: MakeQuantizer, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    for method, wanted in zip(TAILS, np.eye(len(TAILS)), strict=True):
        monkeypatch.setattr(quantization, "logit_errors", lambda *_, errors=1 - wanted: iter(errors))
        assert static(gate(gate=None)).record.range_method == method
        assert f"ranges by {method}" in said[-1]


def test_float_products_are_not_counted(network: Stale) -> None:
    assert count_integer_operators(serialize(localizer_model(network))) == 0
    half = {linear: DynamicScheme() for linear in LINEARS[:2]}
    assert count_integer_operators(serialize(localizer_model(network, half))) == 4


def test_a_graph_that_only_says_that_it_is_quantized_is_not_counted() -> None:
    weights = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
    rounded, step = Scheme().quantize(weights)
    graph = GraphBuilder()
    integers = graph.op("DequantizeLinear", graph.weight("w", rounded), graph.weight("s", step), axis=1)
    graph.name("y", graph.op("MatMul", "x", integers))  # whose other side stays float
    spec = GraphSpec(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("T", 16)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("T", 8)),),
    )
    model = serialize(graph.model(spec))
    assert "DequantizeLinear" in {node.op_type for node in onnx.load_from_string(model).graph.node}
    assert count_integer_operators(model) == 0


@KINDS
@pytest.mark.parametrize("linear", LINEARS)
def test_a_layer_that_silently_stays_float_is_refused(
    gate: MakeQuantizer, monkeypatch: pytest.MonkeyPatch, make: Kind, linear: str
) -> None:
    ignore_scheme(monkeypatch, linear)
    found = WHOLE - INTEGER_OPERATORS_BY_LAYER.get(linear, 1)
    with pytest.raises(QuantizationError, match=rf"^{FILE}: ONNX Runtime computes {found} of {WHOLE} products in int"):
        make(gate(gate=None))


# The gate


@KINDS
@pytest.mark.parametrize("fragile", FRAGILE)
def test_the_repair_returns_the_fragile_layer_and_no_other(
    gate: MakeQuantizer, monkeypatch: pytest.MonkeyPatch, said: list[str], make: Kind, fragile: str
) -> None:
    ruin(monkeypatch, fragile)
    graph = make(gate())
    record = graph.record
    assert record.float_layers == (fragile,)
    found = WHOLE - INTEGER_OPERATORS_BY_LAYER.get(fragile, 1)
    assert record.integer_operators_expected == record.integer_operators_found == found
    assert record.map_percent is not None
    assert record.fp32_map_percent is not None
    assert record.fp32_map_percent - record.map_percent <= 3
    (repair,) = [text for text in said if "back to float" in text]
    assert f"back to float: {fragile} (" in repair
    assert all(f"{linear} " in repair for linear in LAYERS)
    assert fragile in initializers(graph.model)
    assert f"{fragile}.scale" not in initializers(graph.model)


def test_two_fragile_layers_return_the_more_harmful_first(
    gate: MakeQuantizer, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    fragile = ("embedding.output", "adaptation.output")
    ruin(monkeypatch, *fragile)
    record = gate().dynamic(FILE).record
    assert record.float_layers == fragile
    assert record.integer_operators_found == WHOLE - 3
    assert ["embedding.output" in text.split("(")[0] for text in said] == [True, False]


def test_nothing_is_returned_to_float_where_the_drop_is_allowed(
    gate: MakeQuantizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops = {}
    for linear in FRAGILE:
        with monkeypatch.context() as patch:
            ruin(patch, linear)
            record = gate(max_drop=80.0).dynamic(FILE).record
        if record.float_layers == ():
            assert record.map_percent is not None
            assert record.fp32_map_percent is not None
            drops[linear] = record.fp32_map_percent - record.map_percent
    assert drops
    assert all(3 < drop <= 80 for drop in drops.values())


@KINDS
def test_where_every_scale_is_ruined_it_fails_with_the_table(
    gate: MakeQuantizer, monkeypatch: pytest.MonkeyPatch, said: list[str], make: Kind
) -> None:
    ruin(monkeypatch, *LAYERS)
    table = r"with each alone in float: (\S+) \d+\.\d\d"
    with pytest.raises(
        QuantizationError, match=rf"^{FILE}: mAP \d+\.\d\d against \d+\.\d\d in float, .*{table}"
    ) as failed:
        make(gate())
    repairs = [text for text in said if "back to float" in text]
    assert len(repairs) == len(LAYERS) - 1
    assert ("leave out --calibration" in str(failed.value)) == (make is static)
    assert (f"more videos than these {len(calibration().features)}" in str(failed.value)) == (make is static)
    assert "leave out --validate, and stale-run uses ort-fp32" in str(failed.value)


@KINDS
def test_the_limit_that_a_failure_names_accepts_the_graph_that_it_names(
    gate: MakeQuantizer, monkeypatch: pytest.MonkeyPatch, make: Kind
) -> None:
    ruin(monkeypatch, *LAYERS)
    with pytest.raises(QuantizationError) as failed:
        make(gate(max_drop=0.001))
    named = re.search(r"give --max-map-drop (\d+\.\d\d), which accepts it with (.+?) in float, or ", str(failed.value))
    assert named is not None
    record = make(gate(max_drop=float(named[1]))).record
    assert (", ".join(record.float_layers) or "no layer") == named[2]
    assert record.fp32_map_percent is not None
    assert record.map_percent is not None
    drop = record.fp32_map_percent - record.map_percent
    assert f"a drop of {drop:.3f} however" in str(failed.value)
    assert drop <= float(named[1]) < drop + 0.01


def test_bits_are_a_remedy_where_there_are_more(gate: MakeQuantizer, network: Stale) -> None:
    exact = serialize(localizer_model(network))
    for target, bits in (("portable", 7), ("vnni", 8)):
        with pytest.raises(QuantizationError) as failed:
            gate(score=lambda model: 90.0 if model == exact else 80.0, target=target).dynamic(FILE)
        assert (f"give weights more than {bits} bits, see --target" in str(failed.value)) == (target == "portable")
        assert "give --max-map-drop 10.00, which accepts it with no layer in float" in str(failed.value)


@pytest.mark.parametrize("score", [float("nan"), 0.0])
def test_no_limit_is_named_that_would_let_anything_pass(gate: MakeQuantizer, network: Stale, score: float) -> None:
    exact = serialize(localizer_model(network))
    with pytest.raises(QuantizationError, match=rf"mAP {score:.2f} against 90\.00") as failed:
        gate(score=lambda model: 90.0 if model == exact else score).dynamic(FILE)
    assert "--max-map-drop" not in str(failed.value)


@pytest.mark.parametrize("exact", [0.0, 0.4, 0.5, float("nan")])
def test_a_validation_that_even_nothing_would_pass_is_refused(gate: MakeQuantizer, exact: float) -> None:
    with pytest.raises(QuantizationError, match=r"even a graph that finds nothing would lose .* allowed 0\.5"):
        gate(score=lambda _model: exact, max_drop=0.5).dynamic(FILE)


def test_weights_that_saturate_are_refused_before_anything_is_made(gate: MakeQuantizer) -> None:
    with pytest.raises(ExportError, match="--weight-bits 8 with --target portable"):
        gate(weight_bits=8)
    assert gate(target="vnni", weight_bits=8).bits == gate(target="vnni").bits == 8
    record = gate(target="vnni", gate=None).dynamic(FILE).record
    assert (record.target, record.weight_bits) == ("vnni", 8)


# At its real size


@pytest.fixture(scope="module")
def reference_network(reference: Path) -> Stale:
    return read_original_checkpoint(reference / "best.pth", str(reference / "clip")).network


@pytest.fixture(scope="module")
def unseen(reference: Path, reference_network: Stale) -> EncodedPrompts:
    """The 50 classes that the reference network was not trained on."""
    every = (reference / "classes.txt").read_text().splitlines()
    names = (reference / "classes_unseen.txt").read_text().splitlines()
    with np.load(reference / "golden" / "text_all200.npz") as golden:
        embeddings = golden["prompt_embeddings"][[every.index(name) for name in names]]
    return EncodedPrompts(
        tuple(names), embeddings, cross_queries(reference_network, torch.from_numpy(embeddings)).numpy()
    )


@pytest.fixture(scope="module")
def some_videos(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> ValidationVideos:
    folder = tmp_path_factory.mktemp("validation")
    for video in (reference / "videos_unseen.txt").read_text().split()[:8]:
        name = f"v_{video.removeprefix('v_')}.npy"
        (folder / name).symlink_to(reference / "features" / name)
    return read_validation(reference / "ground_truth.json", folder, subset="validation", channels=512, length=100)


@pytest.mark.reference
def test_the_fragile_layer_of_the_reference_is_found_by_its_map(
    reference_network: Stale,
    unseen: EncodedPrompts,
    some_videos: ValidationVideos,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ruin(monkeypatch, "masks.hidden")
    quantizer = Quantizer(
        network=reference_network,
        gate=MapGate(videos=some_videos, prompts=unseen, max_drop=2.0),
        say=lambda _: None,
    )
    record = quantizer.dynamic(FILE).record
    assert record.float_layers == ("masks.hidden",)
    assert record.integer_operators_found == WHOLE - 1
    assert record.fp32_map_percent is not None
    assert record.map_percent is not None
    assert record.fp32_map_percent > 40
    assert record.fp32_map_percent - record.map_percent <= 2


@pytest.mark.reference
def test_the_reference_keeps_its_map_with_every_layer_in_int8(
    reference: Path, reference_network: Stale, unseen: EncodedPrompts, some_videos: ValidationVideos
) -> None:
    seen = (reference / "videos_seen.txt").read_text().split()[:4]
    paths = {video: reference / "features" / f"v_{video.removeprefix('v_')}.npy" for video in seen}
    drawn = Calibration(
        features={video: resample(read_features(path, 512), 100) for video, path in paths.items()}, seed=0
    )
    quantizer = Quantizer(
        network=reference_network,
        gate=MapGate(videos=some_videos, prompts=unseen, max_drop=2.0),
        say=lambda _: None,
    )
    graph = quantizer.static(FILE, drawn, unseen)
    assert graph.record.float_layers == ()
    assert graph.record.integer_operators_found == WHOLE
    assert len(graph.model) < 5e6 < len(serialize(localizer_model(reference_network)))
