"""The graph of ``ort-fast``: a localizer whose cost is linear in T, because it approximates both of its softmaxes.

Attention among the snippets of a video is nearly uniform once what is the same for all keys has been taken out of its
exponent. So softmax is expanded to first order there, see docs/linear_time.md:

    out_i = Σ_h n_h·O_h                                              what the mean snippet gathers, exactly
          + Σ_h (d_i·U_h)·(V_h·Σ_j w_hj·(x_j - n_h)·(x_j - n_h)ᵀ)·O_h  to first order, the strongest directions of A_h
          + Σ_h Σ_m (d_i·(A_h - U_h·V_h)·l_m)·l_m·O_h / M              to first order at M landmarks, the rest of A_h

Here μ is the mean snippet of the video and d = x - μ; w_h = softmax(μ·A_h·xᵀ) and n_h = Σ_j w_hj·x_j; l_m is the mean
deviation d of the m-th of M equal stretches. Weights of the network are multiplied by a few rows only, whatever T is.

Prompts attend to the kept snippets in a similar way, see ``stale_export.fast_adaptation``.

A few snippets get exact attention as well. How far they are from the approximation is the output ``deviation``, by
which the runtime recognizes a video that the approximation is not good enough for.

Comments show shapes as in ``stale_export.localizer_graph``. In addition, M: landmarks, r: directions of each head that
are expanded, G: snippets that get exact attention, N: rows that the heads' output matrices are applied to.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx

from stale_export.expansion import Expansion
from stale_export.fast_adaptation import classify_approximately
from stale_export.folding import FoldedAttention
from stale_export.graph_builder import FLOAT, GraphBuilder
from stale_export.graph_parts import normalize
from stale_export.localizer_graph import watched_name
from stale_export.mask_graph import convolve_bytes, mask_inputs, mask_outputs, propose_masks
from stale_export.row_products import apply_outputs, first_row, multiply_rows, round_rows
from stale_export.schemes import Scheme, StaticScheme
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec
from stale_runtime.inference.video_landmarks import LANDMARKS, SPACED

FARTHEST = 3
"""Snippets that get exact attention because they are the farthest from the video's mean."""
HIDDEN = "masks.hidden"
"""Name of the layer whose input ``fast_model`` shows for calibration."""
GUARD_ROWS = SPACED + FARTHEST
_ROUNDING = 0.04
"""How far products with output matrices of 7 bits are off, as a share of their length: twice what was measured."""


def fast_spec(network: Stale) -> GraphSpec:
    """The inputs and outputs of the graph. B, T and K may have any size; P follows from T, see ``mask_inputs``."""
    C, H, T0 = network.config.channels, network.config.heads, network.config.temporal_scale
    return GraphSpec(
        inputs=(
            TensorSpec(name=layout.FEATURES, dtype="float32", shape=("B", "T", C)),
            TensorSpec(name=layout.PROMPT_EMBEDDINGS, dtype="float32", shape=("K", C)),
            TensorSpec(name=layout.MEAN_QUERY, dtype="float32", shape=(C, H, 1)),
            TensorSpec(name=layout.QUERY_SPREAD, dtype="float32", shape=(H, "K", C)),
            TensorSpec(name=layout.POOLING, dtype="float32", shape=(1 + LANDMARKS, "T")),
            TensorSpec(name=layout.SPACED, dtype="int64", shape=(SPACED,)),
            *mask_inputs(T0),
        ),
        outputs=(
            TensorSpec(name=layout.CAS_LOGITS, dtype="float32", shape=("B", "K+1", "T")),
            *mask_outputs(T0),
            TensorSpec(name=layout.DEVIATION, dtype="float32", shape=("B",)),
        ),
    )


def fast_schemes(heads: int, hidden: StaticScheme) -> dict[str, Scheme]:
    """The quantization of all layers that can be quantized, by name.

    Args:
        heads: H
        hidden: of the mask localizer's hidden layer, the only one that needs calibrating.
    """
    by_head = (f"{block}.output.{h}" for block in ("embedding", "adaptation") for h in range(heads))
    rows = StaticScheme.over(-1, 1, hidden.weight_bits)
    return {**dict.fromkeys(("embedding.query", "embedding.key", *by_head), rows), HIDDEN: hidden}


def fast_model(
    network: Stale, expansion: Expansion, schemes: Mapping[str, Scheme] = FLOAT, *, watch: bool = False
) -> onnx.ModelProto:
    """Build the approximate graph of a trained network.

    Args:
        network: in evaluation mode.
        expansion: of the network's attention among snippets.
        schemes: quantization of layers by their names, see ``fast_schemes``; the others stay in float.
        watch: add the input of the layer ``HIDDEN`` as an output (B, T, C), for calibration; see ``watched_name``.
    """
    graph = GraphBuilder(schemes=schemes)
    snippets = _embed_snippets(graph, FoldedAttention.of(network.snippet_embedding), expansion)  # (B, T, C)
    propose_masks(graph, network.mask_localizer, snippets, convolve_bytes if HIDDEN in schemes else None)
    classify_approximately(graph, network, snippets)  # (B, K+1, T)
    spec = fast_spec(network)
    if not watch:
        return graph.model(spec)
    watched = TensorSpec(name=watched_name(HIDDEN), dtype="float32", shape=("B", "T", network.config.channels))
    graph.name(watched.name, graph.op("Identity", snippets))
    return graph.model(replace(spec, outputs=(*spec.outputs, watched)))


def _embed_snippets(graph: GraphBuilder, block: FoldedAttention, expansion: Expansion) -> str:
    """The approximate attention among the snippets: features (B, T, C) -> (B, T, C)."""
    H, C, r = block.heads, block.output.shape[1], expansion.directions
    pooled = graph.op("MatMul", layout.POOLING, layout.FEATURES)  # (B, 1+M, C)
    mean, stretches = graph.ops("Split", pooled, graph.integers(1, LANDMARKS), outputs=2, axis=1)
    landmarks = graph.op("Sub", stretches, mean)  # (B, M, C)
    deviations = graph.op("Sub", layout.FEATURES, mean)  # (B, T, C)
    # All products are with deviations from a typical snippet: they are small, so that rounding them harms little.
    base = graph.op("Sub", mean, graph.weight("embedding.centre", expansion.centre))  # (B, 1, C)
    places = _choose_guards(graph, deviations)  # (B, G, 1)
    guards = graph.op("GatherND", deviations, places, batch_dims=1)  # (B, G, C)

    rows = graph.op("Concat", base, graph.op("Add", guards, base), landmarks, axis=1)  # (B, 1+G+M, C)
    weights, shares = _compare_snippets(graph, block, expansion, deviations, rows)
    gathered = graph.op("MatMul", weights, deviations)  # (B, H*(1+G), C)
    gathered = graph.op("Reshape", gathered, graph.integers(0, H, 1 + GUARD_ROWS, -1))
    parts = [graph.op("Add", gathered, graph.op("Unsqueeze", base, graph.integers(1)))]  # (B, H, 1+G, C)
    if r:
        left, moments = _covariance(graph, expansion, deviations, weights, gathered)
        shares = graph.op("Concat", left, shares, axis=2)  # (B, T, H*r+H*M)
        parts.append(moments)  # (B, H, r, C)
    by_head = graph.op("Unsqueeze", landmarks, graph.integers(1))  # (B, 1, M, C)
    parts.append(graph.op("Concat", *[by_head] * H, axis=1))
    values = apply_outputs(graph, "embedding.output", block, graph.op("Concat", *parts, axis=2))  # (B, H, N, C)
    sizes = (1 + GUARD_ROWS, r, LANDMARKS) if r else (1 + GUARD_ROWS, LANDMARKS)
    exact, *targets = graph.ops("Split", values, graph.integers(*sizes), outputs=len(sizes), axis=2)
    targets = [graph.op("Reshape", target, graph.integers(0, -1, C)) for target in targets]
    target = graph.op("Concat", *targets, axis=1) if r else targets[0]  # (B, H*r+H*M, C)
    steps = graph.op("MatMul", shares, target)  # (B, T, C), to first order

    exact = graph.op("ReduceSum", exact, graph.integers(1), keepdims=0)  # (B, 1+G, C)
    first, exact = graph.ops("Split", exact, graph.integers(1, GUARD_ROWS), outputs=2, axis=1)
    constant = block.bias + expansion.centre.astype(np.float64) @ block.output.reshape(H, C, C).sum(axis=0)
    common = graph.op("Add", graph.op("Add", first, mean), graph.weight("embedding.bias", constant.astype(np.float32)))

    steps_of_guards = graph.op("GatherND", steps, places, batch_dims=1)  # (B, G, C)
    approximate = graph.op("Add", steps_of_guards, first)  # (B, G, C)
    distances = graph.op("ReduceL2", graph.op("Sub", exact, approximate), graph.integers(2), keepdims=0)  # (B, G)
    sums = graph.op("Add", graph.op("Add", steps_of_guards, guards), common)  # (B, G, C), what is normalized
    _name_deviation(graph, expansion, distances, first, sums)
    # The sum is taken in this order, because ONNX Runtime would make of x + y, both (B, T, C), and LayerNormalization
    # one SkipLayerNormalization, which takes eight times as long.
    return normalize(graph, "embedding", block, graph.op("Add", graph.op("Add", steps, deviations), common))


def _name_deviation(graph: GraphBuilder, expansion: Expansion, distances: str, first: str, sums: str) -> None:
    """Make the output ``deviation`` (B,): how far the approximation is off in the snippets of the guard.

    Normalization enlarges the errors of a snippet that is shorter than usual, also those of rounding. The latter are in
    the exact and the approximate rows alike, so that the distance between these does not show them.

    Args:
        graph: receives the operators.
        expansion: gives the usual length of a snippet.
        distances: (B, G) between exact and approximate attention.
        first: (B, 1, C), what the mean snippet gathers, which is rounded.
        sums: (B, G, C), what is normalized.
    """
    is_rounded = "embedding.output.0" in graph.schemes
    rounding = graph.op("ReduceL2", first, graph.integers(2), keepdims=0)  # (B, 1)
    rounding = graph.op("Mul", rounding, graph.number(_ROUNDING if is_rounded else 0))
    lengths = graph.op("ReduceL2", sums, graph.integers(2), keepdims=0)  # (B, G)
    enlargement = graph.op("Div", graph.number(expansion.norm), lengths)  # (B, G)
    enlarged = graph.op("Mul", graph.op("Max", distances, rounding), enlargement)  # (B, G)
    errors = graph.op("Max", distances, enlarged)  # (B, G)
    graph.name(layout.DEVIATION, graph.op("ReduceMax", errors, graph.integers(1), keepdims=0))  # (B,)


def _choose_guards(graph: GraphBuilder, deviations: str) -> str:
    """Indices of the snippets that get exact attention: deviations (B, T, C) -> (B, G, 1)."""
    distances = graph.op("ReduceSumSquare", deviations, graph.integers(2), keepdims=0)  # (B, T)
    _, farthest = graph.ops("TopK", distances, graph.integers(FARTHEST), outputs=2, axis=1)  # (B, FARTHEST)
    nothing = graph.op("Mul", graph.op("Gather", farthest, graph.integers(0), axis=1), graph.integers(0))  # (B, 1)
    spaced = graph.op("Add", nothing, layout.SPACED)  # (B, SPACED)
    return graph.op("Unsqueeze", graph.op("Concat", spaced, farthest, axis=1), graph.integers(2))


def _compare_snippets(
    graph: GraphBuilder, block: FoldedAttention, expansion: Expansion, deviations: str, rows: str
) -> tuple[str, str]:
    """What the snippets are to the mean snippet, to those of the guard, and to the landmarks.

    Args:
        graph: receives the operators.
        block: gives the weights.
        expansion: gives the typical snippet, and what the directions leave of the weights.
        deviations: (B, T, C) from the mean snippet.
        rows: (B, 1+G+M, C), the mean snippet and those of the guard, minus the typical one; the landmarks.

    Returns:
        The exact attention weights (B, H*(1+G), T), the mean snippet's first in each head, and the scores of the
        landmarks, divided by their number, (B, T, H*M).
    """
    H, C = block.heads, block.output.shape[1]
    constant = (expansion.centre.astype(np.float64) @ block.query).astype(np.float32)  # (H*C,)
    rest = expansion.rest_of(block).transpose(2, 0, 1).reshape(C, H * C) / LANDMARKS
    sizes = graph.integers(1 + GUARD_ROWS, LANDMARKS)
    rounded, factor = round_rows(graph, rows, "embedding.query")
    queries, keys = graph.ops("Split", rounded, sizes, outputs=2, axis=1)
    query_factor, key_factor = graph.ops("Split", factor, sizes, outputs=2, axis=1)
    queries = graph.op("Mul", multiply_rows(graph, "embedding.query", queries, block.query), query_factor)
    queries = graph.op("Add", queries, graph.weight("embedding.centre_query", constant))  # (B, 1+G, H*C)
    keys = graph.op("Mul", multiply_rows(graph, "embedding.key", keys, rest.astype(np.float32)), key_factor)
    queries = _by_head(graph, queries, 1 + GUARD_ROWS, H, C)  # (B, H*(1+G), C)
    columns = graph.op("Concat", queries, _by_head(graph, keys, LANDMARKS, H, C), axis=1)
    # Transposed are the few rows and their scores, not the many snippets.
    scores = graph.op("MatMul", deviations, graph.op("Transpose", columns, perm=[0, 2, 1]))  # (B, T, H*(1+G+M))
    sizes = graph.integers(H * (1 + GUARD_ROWS), H * LANDMARKS)
    attention, shares = graph.ops("Split", scores, sizes, outputs=2, axis=2)
    return graph.op("Softmax", graph.op("Transpose", attention, perm=[0, 2, 1]), axis=-1), shares


def _covariance(
    graph: GraphBuilder, expansion: Expansion, deviations: str, weights: str, gathered: str
) -> tuple[str, str]:
    """The covariance of the snippets under the mean snippet's attention, in the expanded directions.

    Args:
        graph: receives the operators.
        expansion: gives the directions U and V.
        deviations: (B, T, C)
        weights: (B, H*(1+G), T), of which the first row of each head is the mean snippet's.
        gathered: (B, H, 1+G, C), likewise.

    Returns:
        What the deviations are in the directions U, (B, T, H*r), and the covariance in the directions V, (B, H, r, C).
    """
    H, r, C = expansion.right.shape
    left = expansion.left.transpose(1, 0, 2).reshape(C, H * r)
    directions = np.concatenate([left, expansion.right.reshape(H * r, C).T], axis=1)
    both = graph.op("MatMul", deviations, graph.weight("embedding.directions", directions))  # (B, T, 2*H*r)
    left_parts, parts = graph.ops("Split", both, outputs=2, axis=2, num_outputs=2)
    weights = graph.op("Reshape", weights, graph.integers(0, H, 1 + GUARD_ROWS, -1))
    parts = graph.op("Reshape", graph.op("Transpose", parts, perm=[0, 2, 1]), graph.integers(0, H, r, -1))
    parts = graph.op("Mul", parts, first_row(graph, weights))  # (B, H, r, T)
    moments = graph.op("MatMul", graph.op("Reshape", parts, graph.integers(0, H * r, -1)), deviations)  # (B, H*r, C)
    means = graph.op("ReduceSum", parts, graph.integers(3), keepdims=1)  # (B, H, r, 1)
    moments = graph.op("Reshape", moments, graph.integers(0, H, r, C))
    return left_parts, graph.op("Sub", moments, graph.op("Mul", means, first_row(graph, gathered)))


def _by_head(graph: GraphBuilder, rows: str, count: int, H: int, C: int) -> str:
    """Rows of all heads side by side, as rows of one head after the other: (B, count, H*C) -> (B, H*count, C)."""
    rows = graph.op("Reshape", rows, graph.integers(0, count, H, C))
    rows = graph.op("Transpose", rows, perm=[0, 2, 1, 3])  # (B, H, count, C)
    return graph.op("Reshape", rows, graph.integers(0, H * count, C))
