"""Helpers of several modules: running graphs in ONNX Runtime, and the networks that they were made from."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from stale_export.localizer_graph import cross_queries
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import GraphSpec
from stale_runtime.bundle.onnx_safety import refuse_unsafe
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.inference.forward_pass import EncodedPrompts, GraphCall, MaskRows, Outputs, make_inputs, read_outputs

Array = NDArray[np.float32]
KINDS = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
NODES = 12
"""Enough for the networks of tests, whose weights are large, see ``stale_runtime.decoding.mask_interpolation``."""
TRACES = (str(Path(__file__).resolve().parents[2]), str(Path.home()), "site-packages/", "dist-packages/", ".py")


def draw_prompts(K: int, C: int) -> Tensor:
    """Embeddings (K, C) of about the size of CLIP's."""
    return torch.randn(K, C, generator=torch.Generator().manual_seed(K))


def inputs_for(network: Stale, features: Tensor, prompts: Tensor, length: int | None = None) -> dict[str, NDArray[Any]]:
    """The deployed graph's inputs; ``length`` is T, None for the number of snippets that the features have."""
    queries = cross_queries(network, prompts).numpy()
    encoded = EncodedPrompts(tuple(map(str, range(len(prompts)))), prompts.numpy(), queries)
    call = GraphCall(features.numpy(), length or features.shape[1], encoded)
    return make_inputs(layout.LOCALIZER_INPUTS, call, MaskRows(network.config.temporal_scale, NODES))


def run_localizer(
    session: onnxruntime.InferenceSession,
    network: Stale,
    features: Tensor,
    prompts: Tensor,
    length: int | None = None,
) -> tuple[Array, Array]:
    """Outputs of the deployed graph: cas_logits (B, K+1, T) and, from its logits, action_masks (B, T, T)."""
    inputs = inputs_for(network, features, prompts, length)
    found = dict(zip(layout.LOCALIZER_OUTPUTS, session.run(layout.LOCALIZER_OUTPUTS, inputs), strict=True))
    videos = read_outputs(found)
    return np.stack([video.cas_logits for video in videos]), np.stack([all_rows(video.masks) for video in videos])


def whole_outputs(outputs: Outputs) -> list[Array]:
    """Outputs for one video as self-tests record them: cas_logits (K+1, T) and action_masks (T, T)."""
    return [outputs.cas_logits, all_rows(outputs.masks)]


def run_network(network: Stale, features: Tensor, prompts: Tensor) -> tuple[Array, Array]:
    """Outputs of the plain network: cas_logits (B, K+1, T) and action_masks (B, T, T)."""
    with torch.no_grad():
        cas_logits, action_masks = network.localize(features, network.with_background(prompts))
    return cas_logits.numpy(), action_masks.numpy()


def interface(model: bytes) -> tuple[dict[str, object], dict[str, object]]:
    """Type and shape of each input and each output, as the file itself declares them."""
    names = {int(kind): name for name, kind in KINDS.items()}

    def read(values: Iterable[onnx.ValueInfoProto]) -> dict[str, object]:
        return {
            value.name: (
                names[value.type.tensor_type.elem_type],
                tuple(axis.dim_param.replace(" ", "") or axis.dim_value for axis in value.type.tensor_type.shape.dim),
            )
            for value in values
        }

    graph = onnx.load_from_string(model).graph
    return read(graph.input), read(graph.output)


def declared(spec: GraphSpec) -> tuple[dict[str, object], dict[str, object]]:
    """Type and shape of each input and each output, as the manifest declares them."""
    inputs, outputs = (
        {tensor.name: (tensor.dtype, tensor.shape) for tensor in side} for side in (spec.inputs, spec.outputs)
    )
    return dict(inputs), dict(outputs)


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and its subgraphs, however deeply they are nested."""
    yield graph
    for attribute in (attribute for node in graph.node for attribute in node.attribute if attribute.HasField("g")):
        yield from all_graphs(attribute.g)


def weights(model: bytes) -> int:
    """The number of float32 values in a graph's weights."""
    tensors = onnx.load_from_string(model).graph.initializer
    return sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type == onnx.TensorProto.FLOAT)


def assert_whole_and_anonymous(model: bytes) -> None:
    """The graph contains all its tensors, and nothing about the machine that it was made on."""
    refuse_unsafe(model, "graph")
    assert all(not tensor.external_data for tensor in onnx.load_from_string(model).graph.initializer)
    for trace in (*TRACES, "stack_trace"):
        assert trace.encode() not in model, trace
