from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic

from stale_export import Int8Options, export_bundle, exporter, text_quantization
from stale_export.embedded_prompts import EmbeddedPrompts, embed_prompts
from stale_export.quantization import QuantizedGraph, count_integer_operators
from stale_export.schemes import TARGETS
from stale_export.text_quantization import LOWEST_COSINE, lowest_cosine, quantize_text_encoder
from stale_model import TrainedStale, read_original_checkpoint
from stale_model.checkpoints.clip import text_encoder_spec
from stale_runtime import Localizer, Prompts
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import QuantizationError
from tests import tiny
from tests.export.int8 import exact_product, initializers, saturating_product

NAMES = (*tiny.CLASSES, "throwing darts at the pub", "x", "ping-pong, 21: 19")
PRODUCTS = 8
"""Products of the tiny tower, which has one layer: q, k, v, output, two in the MLP, projection, and the queries."""


@pytest.fixture(scope="module")
def known(checkpoint: Path, clip_folder: Path) -> EmbeddedPrompts:
    """What the plain tower computes from prompts."""
    trained = read_original_checkpoint(checkpoint, str(clip_folder))
    return embed_prompts(trained, Prompts.of(NAMES), text_encoder_spec(trained.clip))


@pytest.fixture(scope="module")
def quantized(text_model_bytes: bytes) -> QuantizedGraph:
    return quantize_text_encoder(text_model_bytes, layout.TEXT_ENCODER, target="portable")


def integer_weights(model: bytes) -> dict[str, NDArray[np.int8]]:
    """The weights of every product."""
    tensors = initializers(model)
    nodes = onnx.load_from_string(model).graph.node
    names = [node.input[1] for node in nodes if node.op_type == "MatMulInteger"]
    return {name: tensors[name].astype(np.int8, casting="safe") for name in names}


def changed(model: bytes, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> bytes:
    """A copy of a graph with one constant changed."""
    parsed = onnx.load_from_string(model)
    (tensor,) = (tensor for tensor in parsed.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(tensor))), name))
    data: bytes = parsed.SerializeToString()
    return data


@pytest.mark.parametrize("target", TARGETS)
def test_every_product_is_in_integers(text_model_bytes: bytes, target: str) -> None:
    graph = quantize_text_encoder(text_model_bytes, "text.onnx", target=target)
    record = graph.record
    assert record.integer_operators_expected == record.integer_operators_found == PRODUCTS
    assert count_integer_operators(graph.model) == PRODUCTS
    assert count_integer_operators(text_model_bytes) == 0
    assert (record.file, record.kind, record.target, record.weight_bits) == (
        "text.onnx",
        "dynamic",
        target,
        TARGETS[target],
    )
    assert len(integer_weights(graph.model)) == PRODUCTS
    assert (record.float_layers, record.map_percent) == ((), None)


@pytest.mark.parametrize(("target", "saturates"), [("portable", False), ("vnni", True)])
def test_no_portable_product_can_saturate(text_model_bytes: bytes, target: str, saturates: bool) -> None:
    model = quantize_text_encoder(text_model_bytes, "text.onnx", target=target).model
    for name, weights in integer_weights(model).items():
        activations = np.random.default_rng(0).integers(0, 256, (8, len(weights)))
        activations[0] = 255
        wrong = saturating_product(activations, weights) != exact_product(activations, weights)
        assert wrong.any() == saturates, name


def test_prompts_mean_the_same(quantized: QuantizedGraph, known: EmbeddedPrompts) -> None:
    found = lowest_cosine(quantized.model, "text.onnx", known)
    assert LOWEST_COSINE < found < 1 - 1e-7


def test_the_float_graph_is_exact(text_model_bytes: bytes, known: EmbeddedPrompts) -> None:
    assert lowest_cosine(text_model_bytes, "text.onnx", known) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("product", range(PRODUCTS))
def test_a_ruined_product_is_refused(quantized: QuantizedGraph, known: EmbeddedPrompts, product: int) -> None:
    name = list(integer_weights(quantized.model))[product]
    ruined = changed(quantized.model, name, lambda weights: weights[:, ::-1])
    with pytest.raises(QuantizationError, match=r"^text\.onnx: in int8 .* cosine of .*--text-precision fp32"):
        lowest_cosine(ruined, "text.onnx", known)


@pytest.mark.parametrize("part", ["embeddings", "queries"])
def test_a_single_prompt_that_means_something_else_is_refused(
    quantized: QuantizedGraph, known: EmbeddedPrompts, part: str
) -> None:
    other = getattr(known, part).clone()
    other[4] = other[4].flip(0)
    with pytest.raises(QuantizationError, match="cosine"):
        lowest_cosine(quantized.model, "text.onnx", replace(known, **{part: other}))
    other[4] = float("nan")
    with pytest.raises(QuantizationError, match="cosine of nan"):
        lowest_cosine(quantized.model, "text.onnx", replace(known, **{part: other}))


def test_a_quantization_that_is_skipped_is_refused(text_model_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def skip(source: Path, result: Path, **_options: Any) -> None:
        result.write_bytes(source.read_bytes())

    monkeypatch.setattr(text_quantization, "quantize_dynamic", skip)
    with pytest.raises(QuantizationError, match=rf"^text\.onnx: ONNX Runtime computes 0 of {PRODUCTS} layers"):
        quantize_text_encoder(text_model_bytes, "text.onnx", target="portable")

    parsed = onnx.load_from_string(text_model_bytes)
    left_out = [node.name for node in parsed.graph.node if node.op_type == "MatMul"][-1:]
    monkeypatch.setattr(
        text_quantization,
        "quantize_dynamic",
        lambda *paths, **options: quantize_dynamic(*paths, **options, nodes_to_exclude=left_out),
    )
    with pytest.raises(QuantizationError, match=rf"computes {PRODUCTS - 1} of {PRODUCTS} layers"):
        quantize_text_encoder(text_model_bytes, "text.onnx", target="portable")


@pytest.fixture
def export(
    trained: TrainedStale, text_model_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Bundle]:
    """Exports with an int8 text encoder, made from a graph that is already traced."""
    monkeypatch.setattr(exporter, "text_encoder_model", lambda *_: onnx.load_from_string(text_model_bytes))

    def run() -> Bundle:
        options = Int8Options(text_precision="int8")
        prompts = Prompts.of(tiny.CLASSES)
        export_bundle(trained, prompts, tmp_path / "bundle", int8=options, say=lambda _: None)
        return Bundle(tmp_path / "bundle")

    return run


def test_the_bundle_carries_it_and_says_so(export: Callable[[], Bundle], bundle: Path) -> None:
    made = export()
    (record,) = (record for record in made.manifest.quantization if record.file == layout.TEXT_ENCODER)
    assert record.integer_operators_found == PRODUCTS
    assert count_integer_operators(made.read(layout.TEXT_ENCODER)) == PRODUCTS
    assert all(record.file != layout.TEXT_ENCODER for record in Bundle(bundle).manifest.quantization)
    new = ["throwing darts at the pub"]  # not among the prompts of the bundle
    ours, theirs = (Localizer.open(path).encode_prompts(new).embeddings[0] for path in (made.path, bundle))
    assert LOWEST_COSINE < ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) < 1 - 1e-7


def test_a_ruined_one_writes_nothing(
    export: Callable[[], Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruin(model: bytes, file: str, *, target: str) -> QuantizedGraph:
        graph = quantize_text_encoder(model, file, target=target)
        last = list(integer_weights(graph.model))[-1]
        return QuantizedGraph(model=changed(graph.model, last, lambda weights: -weights), record=graph.record)

    monkeypatch.setattr(exporter, "quantize_text_encoder", ruin)
    with pytest.raises(QuantizationError, match="cosine"):
        export()
    assert list(tmp_path.iterdir()) == []
