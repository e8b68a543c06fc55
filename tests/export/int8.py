"""Helpers of several modules: 8-bit products in numpy, random videos, and ways to ruin a graph."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from stale_export import integer_attention
from stale_export.calibration import Calibration
from stale_export.graph_builder import GraphBuilder, RoundedRows, serialize
from stale_export.graph_runner import localize_video
from stale_export.integer_attention import ATTENTION
from stale_export.localizer_graph import LINEARS, cross_queries, localizer_model
from stale_export.quantization import dynamic_schemes
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.decoding.decoders import DECODERS, DEFAULT_DECODER
from stale_runtime.inference.forward_pass import EncodedPrompts, GraphCall, MaskRows, make_inputs, read_outputs
from tests import tiny
from tests.export.graphs import all_graphs, draw_prompts, whole_outputs

Array = NDArray[np.float32]
Integers = NDArray[np.int64]
DURATION = 60.0


def exact_product(activations: NDArray[np.generic], weights: NDArray[np.int8]) -> Integers:
    """Multiply bytes (N, M) by weights (M, K) in integers that cannot overflow."""
    product: Integers = activations.astype(np.int64) @ weights.astype(np.int64)
    return product


def saturating_product(activations: NDArray[np.generic], weights: NDArray[np.int8]) -> Integers:
    """Like ``exact_product``, as CPUs without VNNI compute it.

    ``vpmaddubsw`` multiplies unsigned bytes by signed ones, adds two neighbours along the inner axis, and saturates at
    16 bits; ``vpmaddwd`` and ``vpaddd`` then add in 32 bits. ONNX Runtime gives the same bits on an emulated Haswell.
    """
    x, w = activations.astype(np.int32), weights.astype(np.int32)
    if len(w) % 2:
        x, w = np.pad(x, ((0, 0), (0, 1))), np.pad(w, ((0, 1), (0, 0)))
    total = np.zeros((len(x), w.shape[1]), np.int64)
    for m in range(0, len(w), 2):
        pair = x[:, m, None] * w[m] + x[:, m + 1, None] * w[m + 1]  # (N, K)
        total += pair.clip(-(2**15), 2**15 - 1)
    return total


class MatMulInteger(OpRun):
    """ONNX's operator of this name, as a CPU without VNNI computes it."""

    op_domain = ""

    def _run(self, A: NDArray[np.uint8], B: NDArray[np.int8], zero: NDArray[np.uint8]) -> tuple[NDArray[np.int32]]:
        product = saturating_product(A.reshape(-1, A.shape[-1]), B) - int(zero) * B.sum(axis=0, dtype=np.int64)
        return (product.reshape(*A.shape[:-1], -1).astype(np.int32),)


class DynamicQuantizeLinear(OpRun):
    """ONNX's operator of this name, but every row gets a step and a zero point of its own.

    ONNX Runtime computes dynamically quantized layers like that on Arm with SME.
    """

    op_domain = ""

    def _run(self, x: Array) -> tuple[NDArray[np.uint8], Array, NDArray[np.uint8]]:
        low, high = (end(x, axis=-1, keepdims=True, initial=0) for end in (np.min, np.max))
        step = ((high - low) / 255).clip(min=np.finfo(np.float32).tiny).astype(np.float32)
        zero = np.rint(-low / step).clip(0, 255).astype(np.uint8)
        return (np.rint(x / step) + zero).clip(0, 255).astype(np.uint8), step, zero


class _RowsMatMulInteger(OpRun):
    """ONNX's operator MatMulInteger, with a zero point for each row."""

    op_domain = ""

    def _run(self, A: NDArray[np.uint8], B: NDArray[np.int8], zero: NDArray[np.uint8]) -> tuple[NDArray[np.int32]]:
        return ((A.astype(np.int32) - zero) @ B.astype(np.int32),)


_RowsMatMulInteger.__name__ = "MatMulInteger"  # the name by which the reference implementation finds it
Kernels = Sequence[type[OpRun]]
EXACT: Kernels = ()
SATURATING: Kernels = (MatMulInteger,)
BY_ROWS: Kernels = (DynamicQuantizeLinear, _RowsMatMulInteger)


def _round_rows_together(graph: GraphBuilder, x: str, width: int) -> RoundedRows:
    """Like ``GraphBuilder.round_rows``, without the operator that ``BY_ROWS`` changes."""
    zero = graph.number(0)
    low = graph.op("Min", graph.op("ReduceMin", x, keepdims=0), zero)
    high = graph.op("Max", graph.op("ReduceMax", x, keepdims=0), zero)
    step = graph.op("Div", graph.op("Sub", high, low), graph.number(255))
    byte = graph.op("Cast", graph.op("Round", graph.op("Div", graph.op("Neg", low), step)), to=onnx.TensorProto.UINT8)
    bytes_ = graph.op("QuantizeLinear", graph.op("Reshape", x, graph.integers(-1, width)), step, byte)
    return RoundedRows(bytes_, step, byte)


def _set_conditions(graph: onnx.GraphProto) -> None:
    """Give every loop without a condition one that is true."""
    for part in all_graphs(graph):
        part.initializer.append(numpy_helper.from_array(np.array(True), f"{part.name}/true"))
        for node in part.node:
            if node.op_type == "Loop":
                node.input[1] = f"{part.name}/true"


def run_emulated(
    network: Stale,
    features: Array,
    prompts: EncodedPrompts,
    kernels: Kernels = EXACT,
    *,
    bits: int,
    edit: Callable[[onnx.ModelProto], None] = lambda _: None,
) -> list[Array]:
    """Outputs of the dynamic graph by ONNX's reference implementation, with the products of some CPU.

    The reference implementation runs a loop only with a condition, so each gets one. Where the CPU rounds rows by
    themselves, only layers without anything between rounding and product do, see ``GraphBuilder.round_rows``.

    Args:
        network: in evaluation mode.
        features: (T, C) of one video.
        prompts: K prompts.
        kernels: the CPU's own operators.
        bits: of a weight.
        edit: changes the graph before it is run.

    Returns:
        The outputs (K + 1, T) and (T, T).
    """
    with pytest.MonkeyPatch.context() as patch:
        if kernels is BY_ROWS:
            patch.setattr(GraphBuilder, "round_rows", _round_rows_together)
        model = localizer_model(network, dynamic_schemes(bits))
    _set_conditions(model.graph)
    edit(model)
    evaluator = ReferenceEvaluator(model, new_ops=list(kernels))
    call, rows = GraphCall(features[None], len(features), prompts), MaskRows(network.config.temporal_scale)
    names = layout.LOCALIZER_OUTPUTS
    found = map(np.asarray, evaluator.run(list(names), make_inputs(layout.LOCALIZER_INPUTS, call, rows)))
    return whole_outputs(read_outputs(dict(zip(names, found, strict=True)))[0])


def linear_weights(network: Stale) -> dict[str, Array]:
    """The float weights (M, N) in the deployed graph of every layer that can be quantized."""
    tensors = {tensor.name: tensor for tensor in localizer_model(network).graph.initializer}
    return {linear: numpy_helper.to_array(tensors[linear]) for linear in LINEARS}


def initializers(model: bytes) -> dict[str, NDArray[np.generic]]:
    """All constant tensors of a graph and its subgraphs, by their names without the subgraph's."""
    graphs = all_graphs(onnx.load_from_string(model).graph)
    return {
        tensor.name.split("/")[-1]: numpy_helper.to_array(tensor) for graph in graphs for tensor in graph.initializer
    }


def encode(network: Stale, K: int = len(tiny.CLASSES)) -> EncodedPrompts:
    """Random prompts."""
    prompts = draw_prompts(K, network.config.channels)
    names = (tiny.CLASSES * K)[:K]
    return EncodedPrompts(names, prompts.numpy(), cross_queries(network, prompts).numpy())


def draw_videos(
    count: int, *, name: str = "video", seed: int = 0, T: int = tiny.LENGTH, C: int = tiny.CHANNELS
) -> dict[str, Array]:
    """Features (T, C) by video id."""
    generator = np.random.default_rng(seed)
    return {f"{name}{n}": generator.standard_normal((T, C)).astype(np.float32) for n in range(count)}


def calibration(count: int = 12) -> Calibration:
    return Calibration(features=draw_videos(count, seed=1), seed=0)


def write_validation(folder: Path, network: Stale, prompts: EncodedPrompts) -> tuple[Path, Path]:
    """Write annotations that agree with the float graph, see ``annotate``, and a folder of those videos' features."""
    videos = draw_videos(8, name="unseen", seed=2)
    annotations = annotate(folder / "annotations.json", network, prompts, videos)
    return annotations, write_videos(folder / "validation", videos)


def ruin(monkeypatch: pytest.MonkeyPatch, *linears: str, by: float = 8) -> None:
    """Make the export write quantized weights of these layers ``by`` times too large; float weights stay right."""
    honest, gather = GraphBuilder.weight, integer_attention._gather
    ruined = {f"{linear}.scale" for linear in linears}

    def weight(self: GraphBuilder, name: str, values: NDArray[np.generic]) -> str:
        return honest(self, name, values.astype(np.float32) * np.float32(by) if name in ruined else values)

    def gather_too_much(outer: GraphBuilder, graph: GraphBuilder, *rest: Any) -> str:
        return graph.op("Mul", gather(outer, graph, *rest), graph.number(by if ATTENTION in graph.schemes else 1))

    monkeypatch.setattr(GraphBuilder, "weight", weight)
    if ATTENTION in linears:
        monkeypatch.setattr(integer_attention, "_gather", gather_too_much)


def ignore_scheme(monkeypatch: pytest.MonkeyPatch, linear: str) -> None:
    """Make the export ignore the quantization of this layer, and write it in float."""
    honest = GraphBuilder.linear

    def linear_(self: GraphBuilder, name: str, x: str, weights: Array) -> str:
        if name == linear:
            self.schemes = {other: scheme for other, scheme in self.schemes.items() if other != name}
        return honest(self, name, x, weights)

    monkeypatch.setattr(GraphBuilder, "linear", linear_)


def write_videos(folder: Path, videos: Mapping[str, Array]) -> Path:
    """Write a folder of feature files."""
    folder.mkdir(parents=True, exist_ok=True)
    for video, features in videos.items():
        np.save(folder / f"v_{video}.npy", features)
    return folder


def annotate(
    path: Path, network: Stale, prompts: EncodedPrompts, videos: Mapping[str, Array], *, most: int = 8
) -> Path:
    """Write the float graph's best detections as annotations, so that its mAP is high, although it is random."""
    session = open_session(serialize(localizer_model(network)), name="float", threads=1)
    database = {}
    for video, features in videos.items():
        outputs = localize_video(session, features, prompts)
        ranked = DECODERS[DEFAULT_DECODER](outputs.cas_logits, outputs.masks)
        rows = zip(ranked.classes[:most].tolist(), (ranked.segments[:most] * DURATION).tolist(), strict=True)
        annotations = [{"label": prompts.names[label], "segment": segment} for label, segment in rows]
        database[video] = {"duration": DURATION, "subset": "validation", "annotations": annotations}
    path.write_text(json.dumps({"database": database}))
    return path
