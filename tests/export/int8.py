"""What several modules here need: 8-bit integers in numpy, made-up videos, and ways to ruin a graph."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from stale_export import localizer_graph
from stale_export.calibration import Calibration, graph_inputs
from stale_export.graph_builder import GraphBuilder, serialize
from stale_export.localizer_graph import LINEARS, cross_queries, localizer_model
from stale_export.schemes import DynamicScheme
from stale_model import Stale
from stale_runtime.decoding.decoders import DECODERS, DEFAULT_DECODER
from stale_runtime.inference.localizer import EncodedPrompts
from stale_runtime.inference.onnx_session import open_session
from tests import tiny
from tests.export.graphs import draw_prompts

Array = NDArray[np.float32]
Integers = NDArray[np.int64]
DURATION = 60.0


def exact_product(activations: NDArray[np.generic], weights: NDArray[np.int8]) -> Integers:
    """Bytes (N, M) times weights (M, K) in integers that are wide enough."""
    product: Integers = activations.astype(np.int64) @ weights.astype(np.int64)
    return product


def saturating_product(activations: NDArray[np.generic], weights: NDArray[np.int8]) -> Integers:
    """The same as CPUs without VNNI compute it.

    ``vpmaddubsw`` multiplies unsigned bytes with signed ones, adds two neighbours along the inner axis, and saturates
    at 16 bits; ``vpmaddwd`` and ``vpaddd`` then add in 32. To the bit what ONNX Runtime gives on an emulated Haswell.
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
    """ONNX's operator of that name on a CPU without VNNI."""

    op_domain = ""

    def _run(self, A: NDArray[np.uint8], B: NDArray[np.int8], zero: NDArray[np.uint8]) -> tuple[NDArray[np.int32]]:
        product = saturating_product(A.reshape(-1, A.shape[-1]), B) - int(zero) * B.sum(axis=0, dtype=np.int64)
        return (product.reshape(*A.shape[:-1], -1).astype(np.int32),)


def run_emulated(network: Stale, features: Array, prompts: EncodedPrompts, bits: int, *, vnni: bool) -> list[Array]:
    """Outputs of the dynamic graph by ONNX's reference implementation, products as a CPU with or without VNNI has them.

    Attention in tiles is for long videos, and the reference implementation cannot do it, so it is left out.
    """
    schemes = {linear: DynamicScheme(weight_bits=bits) for linear in LINEARS}
    with pytest.MonkeyPatch.context() as patch:
        by_heads = localizer_graph._attend_by_heads
        patch.setattr(localizer_graph, "_attend_in_tiles", lambda prefix, *rest: by_heads(f"{prefix}never/", *rest))
        model = localizer_model(network, schemes)
    evaluator = ReferenceEvaluator(model, new_ops=[] if vnni else [MatMulInteger])
    return [
        np.asarray(output) for output in evaluator.run(["cas_logits", "action_masks"], graph_inputs(features, prompts))
    ]


def linear_weights(network: Stale) -> dict[str, Array]:
    """The float weights (M, N) of every layer that may be quantized, as they stand in the deployed graph."""
    tensors = {tensor.name: tensor for tensor in localizer_model(network).graph.initializer}
    return {linear: numpy_helper.to_array(tensors[linear]) for linear in LINEARS}


def initializers(model: bytes) -> dict[str, NDArray[np.generic]]:
    """All constant tensors of a graph."""
    graph = onnx.load_from_string(model).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def encode(network: Stale, K: int = len(tiny.CLASSES)) -> EncodedPrompts:
    """Made-up prompts."""
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
    """Annotations that say what the float graph finds, see ``annotate``, and the folder of those videos' features."""
    videos = draw_videos(8, name="unseen", seed=2)
    annotations = annotate(folder / "annotations.json", network, prompts, videos)
    return annotations, write_videos(folder / "validation", videos)


def ruin(monkeypatch: pytest.MonkeyPatch, *linears: str, by: float = 8) -> None:
    """From now on, these layers are exported with weights too large when quantized, and as they are in float."""
    honest = GraphBuilder.weight
    ruined = {f"{linear}.scale" for linear in linears}

    def weight(self: GraphBuilder, name: str, values: NDArray[np.generic]) -> str:
        return honest(self, name, values.astype(np.float32) * np.float32(by) if name in ruined else values)

    monkeypatch.setattr(GraphBuilder, "weight", weight)


def ignore_scheme(monkeypatch: pytest.MonkeyPatch, linear: str) -> None:
    """From now on, this layer is exported in float, whatever is asked for."""
    honest = GraphBuilder.linear

    def linear_(self: GraphBuilder, name: str, x: str, weights: Array) -> str:
        if name == linear:
            self._schemes = {other: scheme for other, scheme in self._schemes.items() if other != name}
        return honest(self, name, x, weights)

    monkeypatch.setattr(GraphBuilder, "linear", linear_)


def write_videos(folder: Path, videos: Mapping[str, Array]) -> Path:
    """A folder of feature files."""
    folder.mkdir(parents=True, exist_ok=True)
    for video, features in videos.items():
        np.save(folder / f"v_{video}.npy", features)
    return folder


def annotate(
    path: Path, network: Stale, prompts: EncodedPrompts, videos: Mapping[str, Array], *, most: int = 8
) -> Path:
    """Annotations that say what the float graph finds first, so that its mAP is high although it is random."""
    session = open_session(serialize(localizer_model(network)), name="float", threads=1)
    database = {}
    for video, features in videos.items():
        logits, masks = session.run(["cas_logits", "action_masks"], graph_inputs(features, prompts))
        ranked = DECODERS[DEFAULT_DECODER](logits[0], masks[0])
        rows = zip(ranked.classes[:most].tolist(), (ranked.segments[:most] * DURATION).tolist(), strict=True)
        annotations = [{"label": prompts.names[label], "segment": segment} for label, segment in rows]
        database[video] = {"duration": DURATION, "subset": "validation", "annotations": annotations}
    path.write_text(json.dumps({"database": database}))
    return path
