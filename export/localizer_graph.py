"""The deployed localizer: the network of ``stale_model`` as an ONNX graph, rewritten to run faster.

The graph computes the same function as ``stale_model.network.stale``, up to rounding. It differs in six ways:

- Attention blocks are folded, see ``stale_export.folding``.
- A video of fewer snippets than T is resampled inside the graph, because attention can then be computed from
  fewer snippets.
- The prompts' queries of the cross-adaptation are an input, because they depend on the prompts alone and are computed
  only once.
- The foreground branch and the logits of the whole video, which only training needs, are left out.
- Of the masks it gives what decoders read, see ``stale_export.mask_graph``.
- Snippets that the masks discard are not computed one by one. The network sets them to zero, so they are all equal:
  the graph computes one zero snippet in place of all of them, and counts it once for each.

Comments show the shape of a value after the line that computes it. B: videos, S: snippets of a video as it is given,
T: snippets that the network sees, C: channels, H: heads, K: class names, M: channels of the mask localizer, N: the
most snippets that the masks keep of a video of the batch.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import torch
from torch import Tensor

from stale_export.folding import FoldedAttention, Matrix
from stale_export.graph_builder import FLOAT, GraphBuilder
from stale_export.graph_parts import add_and_normalize, scale_to_length_one
from stale_export.integer_attention import ATTENTION
from stale_export.mask_graph import mask_inputs, mask_outputs, propose_masks
from stale_export.schemes import Scheme
from stale_export.snippet_attention import embed_snippets
from stale_model import Stale
from stale_model.network.stale import LOGIT_SCALE, SCORE_FLOOR
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec

LINEARS = ("embedding.query", "embedding.output", "masks.hidden", "adaptation.output")
"""The linear layers that can be quantized: they have nearly all of the weights and, at T=100, take nearly all of the
time."""
LAYERS = (*LINEARS, ATTENTION)
"""All layers that can be quantized."""


def localizer_spec(network: Stale) -> GraphSpec:
    """The inputs and outputs of the graph. B, S, T and K may have any size; P follows from T.

    The input ``length`` is T, and ``interpolate_masks`` gives the last two inputs for it. A video may be given with T
    snippets, or with S < T; the graph then resamples it to T.
    """
    C, H, T0 = network.config.channels, network.config.heads, network.config.temporal_scale
    return GraphSpec(
        inputs=(
            TensorSpec(name=layout.FEATURES, dtype="float32", shape=("B", "S", C)),
            TensorSpec(name=layout.LENGTH, dtype="int64", shape=()),
            TensorSpec(name=layout.PROMPT_EMBEDDINGS, dtype="float32", shape=("K", C)),
            TensorSpec(name=layout.QUERIES, dtype="float32", shape=("K", H * C)),
            *mask_inputs(T0),
        ),
        outputs=(
            TensorSpec(name=layout.CAS_LOGITS, dtype="float32", shape=("B", "K+1", "T")),
            *mask_outputs(T0),
        ),
    )


def cross_queries(network: Stale, embeddings: Tensor) -> Tensor:
    """Compute the prompts' queries of the cross-adaptation, which are an input of the graph: (K, C) -> (K, H*C)."""
    query = torch.from_numpy(FoldedAttention.of(network.cross_adaptation).query)
    return (embeddings.double() @ query.double()).float()


def localizer_model(network: Stale, schemes: Mapping[str, Scheme] = FLOAT, *, watch: bool = False) -> onnx.ModelProto:
    """Build the deployed graph of a trained network.

    Args:
        network: in evaluation mode.
        schemes: quantization of layers of ``LAYERS``, by name; layers that are not named stay in float.
        watch: add the input of each linear layer as an output, for calibration; see ``watched_name``.
    """
    C = network.config.channels
    graph = GraphBuilder(schemes=schemes)
    snippets = embed_snippets(graph, FoldedAttention.of(network.snippet_embedding), C)  # (B, T, C)
    keep = propose_masks(graph, network.mask_localizer, snippets)  # (B, T) of bool
    _classify(graph, network, snippets, keep)  # (B, K+1, T)
    spec = localizer_spec(network)
    if not watch:
        return graph.model(spec)
    for name, value in graph.linears.items():
        graph.name(watched_name(name), graph.op("Identity", value))
    watched = (TensorSpec(name=watched_name(name), dtype="float32", shape=("B", "N", "C")) for name in graph.linears)
    return graph.model(replace(spec, outputs=(*spec.outputs, *watched)))


def watched_name(linear: str) -> str:
    """Name of the output that shows the input of a linear layer."""
    return f"{linear}.input"


def _classify(graph: GraphBuilder, network: Stale, snippets: str, keep: str) -> None:
    """Adapt the prompts to the kept snippets, and compare both.

    Args:
        graph: receives the operators; the class activations become its output.
        network: gives the weights.
        snippets: (B, T, C)
        keep: (B, T) of bool.
    """
    C = network.config.channels
    block = FoldedAttention.of(network.cross_adaptation)
    background = network.background_embedding.detach().numpy()  # (1, C)
    prompts = graph.op("Concat", layout.PROMPT_EMBEDDINGS, graph.weight("background", background), axis=0)  # (K+1, C)
    rows = graph.op("Reshape", layout.QUERIES, graph.integers(-1, C))  # (K*H, C)
    background_rows = (background.astype(np.float64) @ block.query).reshape(-1, C).astype(np.float32)  # (H, C)

    kept, number = _compact(graph, snippets, keep)  # (B, N+1, C), (1,)
    counts = _log_counts(graph, snippets, number)  # (N+1,)
    weights = _attention_weights(graph, rows, background_rows, kept, counts)  # (B, (K+1)*H, N+1)
    mixed = _mix_values(graph, block, weights, kept)  # (B, K+1, C)
    adapted = add_and_normalize(graph, "adaptation", block, mixed, prompts)  # (B, K+1, C)

    adapted = graph.op("Mul", scale_to_length_one(graph, adapted), graph.number(LOGIT_SCALE))
    floored = scale_to_length_one(graph, graph.op("Max", kept, graph.number(SCORE_FLOOR)))  # (B, N+1, C)
    logits = graph.op("MatMul", floored, graph.op("Transpose", adapted, perm=[0, 2, 1]))  # (B, N+1, K+1)
    logits = graph.op("GatherND", logits, _places(graph, keep, number), batch_dims=1)  # (B, T, K+1)
    graph.name(layout.CAS_LOGITS, graph.op("Transpose", logits, perm=[0, 2, 1]))  # (B, K+1, T)


def _compact(graph: GraphBuilder, snippets: str, keep: str) -> tuple[str, str]:
    """Collect the kept snippets of each video, followed by a zero snippet: (B, T, C), (B, T) -> (B, N+1, C) and N.

    N, (1,), is the largest number of kept snippets of a video of the batch. The rows of a video that keeps fewer are
    filled up with zeros.
    """
    counts = graph.op("ReduceSum", graph.op("Cast", keep, to=onnx.TensorProto.INT64), graph.integers(1), keepdims=0)
    number = graph.op("Max", graph.op("ReduceMax", counts, keepdims=1), graph.integers(1))  # (1,)
    length = graph.op("Squeeze", graph.op("Shape", keep, start=1))
    position = graph.op("Range", graph.scalar(0), length, graph.scalar(1))  # (T,)
    # Sorting keys, all different: T - t for a kept snippet t, and -t for a discarded one.
    order = graph.op("Sub", graph.op("Where", keep, length, graph.scalar(0)), position)  # (B, T)
    order, index = graph.ops("TopK", order, number, outputs=2, axis=1)
    flags = graph.op("Cast", graph.op("Greater", order, graph.integers(0)), to=onnx.TensorProto.FLOAT)  # (B, N)
    kept = graph.op("GatherND", snippets, graph.op("Unsqueeze", index, graph.integers(2)), batch_dims=1)
    kept = graph.op("Mul", kept, graph.op("Unsqueeze", flags, graph.integers(2)))  # (B, N, C)
    return graph.op("Pad", kept, graph.integers(0, 0, 0, 0, 1, 0)), number


def _log_counts(graph: GraphBuilder, snippets: str, number: str) -> str:
    """What to add to attention scores so that the zero snippet counts for all discarded ones: (N+1,).

    It is log(T - N) for the zero snippet, because softmax then multiplies its weight by T - N, and 0 for all others.
    """
    discarded = graph.op("Sub", graph.op("Shape", snippets, start=1, end=2), number)  # (1,)
    counted = graph.op("Log", graph.op("Cast", discarded, to=onnx.TensorProto.FLOAT))
    return graph.op("Pad", counted, graph.op("Concat", number, graph.integers(0), axis=0))


def _attention_weights(graph: GraphBuilder, rows: str, background_rows: Matrix, kept: str, counts: str) -> str:
    """Weights of the cross-adaptation: queries (K*H, C) and (H, C), snippets (B, N+1, C) -> (B, (K+1)*H, N+1)."""
    keys = graph.op("Transpose", kept, perm=[0, 2, 1])  # (B, C, N+1)
    scores = graph.op("MatMul", rows, keys)  # (B, K*H, N+1)
    background_scores = graph.op("MatMul", graph.weight("background_query", background_rows), keys)  # (B, H, N+1)
    scores = graph.op("Concat", scores, background_scores, axis=1)  # (B, (K+1)*H, N+1)
    return graph.op("Softmax", graph.op("Add", scores, counts), axis=-1)


def _mix_values(graph: GraphBuilder, block: FoldedAttention, weights: str, kept: str) -> str:
    """Output of the cross-adaptation's heads: weights (B, (K+1)*H, N+1), snippets (B, N+1, C) -> (B, K+1, C).

    The folded output matrix is applied to the snippets before they are weighted, so that its cost does not grow with
    the number of prompts.
    """
    H, C = block.heads, block.output.shape[1]
    side_by_side = block.output.reshape(H, C, C).transpose(1, 0, 2).reshape(C, H * C)  # (H*C, C) -> (C, H*C)
    values = graph.linear("adaptation.output", kept, side_by_side)  # (B, N+1, H*C)
    values = graph.op("Reshape", values, graph.integers(0, 0, H, C))  # (B, N+1, H, C)
    values = graph.op("Transpose", values, perm=[0, 2, 1, 3])  # (B, H, N+1, C)
    values = graph.op("Reshape", values, graph.integers(0, -1, C))  # (B, H*(N+1), C)
    row = graph.op("Concat", graph.integers(0, -1), graph.op("Shape", values, start=1, end=2), axis=0)
    return graph.op("MatMul", graph.op("Reshape", weights, row), values)  # (B, K+1, H*(N+1)) @ (B, H*(N+1), C)


def _places(graph: GraphBuilder, keep: str, number: str) -> str:
    """Index of each snippet in the result of ``_compact``, N for a discarded snippet: (B, T) -> (B, T, 1)."""
    order = graph.op("CumSum", graph.op("Cast", keep, to=onnx.TensorProto.INT64), graph.scalar(1))  # (B, T)
    place = graph.op("Where", keep, graph.op("Sub", order, graph.integers(1)), number)
    return graph.op("Unsqueeze", place, graph.integers(2))
