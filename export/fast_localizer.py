"""The graph of ``ort-fast``: a localizer whose cost is linear in T, because it approximates both of its softmaxes.

Attention among the snippets of a video is nearly uniform once what is the same for all keys has been taken out of its
exponent. So softmax is expanded to first order there, see docs/linear_time.md:

    out_i = Σ_h n_h·O_h                                              what the mean snippet gathers, exactly
          + Σ_h (d_i·U_h)·(V_h·Σ_j w_hj·(x_j - n_h)·(x_j - n_h)ᵀ)·O_h  to first order, the strongest directions of A_h
          + Σ_h Σ_m (d_i·(A_h - U_h·V_h)·l_m)·l_m·O_h / M              to first order at M landmarks, the rest of A_h

Here μ is the mean snippet of the video and d = x - μ; w_h = softmax(μ·A_h·xᵀ) and n_h = Σ_j w_hj·x_j; l_m is the mean
deviation d of the m-th of M equal stretches. Weights of the network are multiplied by a few rows only, whatever T is.

Prompts attend to the kept snippets in the same way: the mean query of all prompts and the background's query exactly,
and by how a prompt's query differs from the mean, to first order, how much it attends to the kept snippets at all.

A few snippets get exact attention as well. How far they are from the approximation is the output ``deviation``, by
which the runtime recognizes a video that the approximation is not good enough for.

Comments show shapes as in ``stale_export.localizer_graph``. In addition, M: landmarks, r: directions of each head that
are expanded, G: snippets that get exact attention, N: rows that the heads' output matrices are applied to.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import onnx

from stale_export.expansion import Expansion
from stale_export.folding import FoldedAttention, Matrix
from stale_export.graph_builder import FLOAT, GraphBuilder
from stale_export.localizer_graph import watched_name
from stale_export.mask_graph import convolve_bytes, mask_inputs, mask_outputs, propose_masks
from stale_export.schemes import Scheme, StaticScheme
from stale_model import Stale
from stale_model.network.stale import LOGIT_SCALE, SCORE_FLOOR
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec
from stale_runtime.inference.video_landmarks import LANDMARKS, SPACED

FARTHEST = 3
"""Snippets that get exact attention because they are the farthest from the video's mean."""
HIDDEN = "masks.hidden"
"""Name of the layer whose input ``fast_model`` shows for calibration."""
GUARD_ROWS = SPACED + FARTHEST
_TINY = 1e-30
_FAR = 1e9
"""Much more than any score or feature of a snippet."""


class _Discarded(NamedTuple):
    """Names of the values that say which snippets are discarded."""

    barrier: str
    """(B, T, 1) of float32, ``_FAR`` for a discarded snippet and 0 for a kept one."""
    log_count: str
    """(B, 1, 1) logarithm of the number of discarded snippets."""


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
    _classify(graph, network, snippets)
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
    values = _apply_outputs(graph, "embedding.output", block, graph.op("Concat", *parts, axis=2))  # (B, H, N, C)
    sizes = (1 + GUARD_ROWS, r, LANDMARKS) if r else (1 + GUARD_ROWS, LANDMARKS)
    exact, *targets = graph.ops("Split", values, graph.integers(*sizes), outputs=len(sizes), axis=2)
    targets = [graph.op("Reshape", target, graph.integers(0, -1, C)) for target in targets]
    target = graph.op("Concat", *targets, axis=1) if r else targets[0]  # (B, H*r+H*M, C)
    steps = graph.op("MatMul", shares, target)  # (B, T, C), to first order

    exact = graph.op("ReduceSum", exact, graph.integers(1), keepdims=0)  # (B, 1+G, C)
    first, exact = graph.ops("Split", exact, graph.integers(1, GUARD_ROWS), outputs=2, axis=1)
    approximate = graph.op("Add", graph.op("GatherND", steps, places, batch_dims=1), first)  # (B, G, C)
    distances = graph.op("ReduceL2", graph.op("Sub", exact, approximate), graph.integers(2), keepdims=0)  # (B, G)
    graph.name(layout.DEVIATION, graph.op("ReduceMax", distances, graph.integers(1), keepdims=0))  # (B,)

    constant = block.bias + expansion.centre.astype(np.float64) @ block.output.reshape(H, C, C).sum(axis=0)
    common = graph.op("Add", first, graph.weight("embedding.bias", constant.astype(np.float32)))
    return graph.op(
        "LayerNormalization",
        graph.op("Add", graph.op("Add", steps, layout.FEATURES), common),
        graph.weight("embedding.norm_weight", block.norm_weight),
        graph.weight("embedding.norm_bias", block.norm_bias),
        axis=-1,
        epsilon=block.norm_epsilon,
    )


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
    rounded, factor = _round_rows(graph, rows, "embedding.query")
    queries, keys = graph.ops("Split", rounded, sizes, outputs=2, axis=1)
    query_factor, key_factor = graph.ops("Split", factor, sizes, outputs=2, axis=1)
    queries = graph.op("Mul", _multiply(graph, "embedding.query", queries, block.query), query_factor)
    queries = graph.op("Add", queries, graph.weight("embedding.centre_query", constant))  # (B, 1+G, H*C)
    keys = graph.op("Mul", _multiply(graph, "embedding.key", keys, rest.astype(np.float32)), key_factor)
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
    parts = graph.op("Mul", parts, _first_row(graph, weights))  # (B, H, r, T)
    moments = graph.op("MatMul", graph.op("Reshape", parts, graph.integers(0, H * r, -1)), deviations)  # (B, H*r, C)
    means = graph.op("ReduceSum", parts, graph.integers(3), keepdims=1)  # (B, H, r, 1)
    moments = graph.op("Reshape", moments, graph.integers(0, H, r, C))
    return left_parts, graph.op("Sub", moments, graph.op("Mul", means, _first_row(graph, gathered)))


def _classify(graph: GraphBuilder, network: Stale, snippets: str) -> None:
    """Adapt the prompts to the kept snippets, and compare both; snippets (B, T, C)."""
    block = FoldedAttention.of(network.cross_adaptation)
    background = network.background_embedding.detach().numpy()  # (1, C)
    discarded = _find_discarded(graph)
    mixed = _adapt(graph, block, background, snippets, discarded)  # (B, K+1, C)
    prompts = graph.op("Concat", layout.PROMPT_EMBEDDINGS, graph.weight("background", background), axis=0)  # (K+1, C)
    adapted = graph.op(
        "LayerNormalization",
        graph.op("Add", mixed, prompts),
        graph.weight("adaptation.norm_weight", block.norm_weight),
        graph.weight("adaptation.norm_bias", block.norm_bias),
        axis=-1,
        epsilon=block.norm_epsilon,
    )  # (B, K+1, C)
    lengths = graph.op("ReduceL2", adapted, graph.integers(2), keepdims=1)
    adapted = graph.op("Mul", adapted, graph.op("Div", graph.number(LOGIT_SCALE), lengths))

    # The network sets a discarded snippet to zero, and numbers below the floor to the floor: its numbers are all equal
    # then, and only its direction matters. So a floor that is high enough does both.
    floor = graph.op("Max", discarded.barrier, graph.number(SCORE_FLOOR))  # (B, T, 1)
    floored = graph.op("Max", snippets, floor)  # (B, T, C)
    lengths = graph.op("ReduceL2", floored, graph.integers(2), keepdims=1)  # (B, T, 1)
    # Transposed are prompts and logits, not the snippets, which have more channels.
    logits = graph.op("MatMul", floored, graph.op("Transpose", adapted, perm=[0, 2, 1]))  # (B, T, K+1)
    logits = graph.op("Div", logits, lengths)
    graph.name(layout.CAS_LOGITS, graph.op("Transpose", logits, perm=[0, 2, 1]))


def _find_discarded(graph: GraphBuilder) -> _Discarded:
    kept = graph.op("Unsqueeze", layout.KEPT, graph.integers(2))
    dropped = graph.op("Sub", graph.number(1), kept)  # (B, T, 1), 1 or 0
    count = graph.op("ReduceSum", dropped, graph.integers(1), keepdims=1)  # (B, 1, 1)
    log_count = graph.op("Log", count)  # minus infinity for no snippet
    return _Discarded(graph.op("Mul", dropped, graph.number(_FAR)), log_count)


def _adapt(
    graph: GraphBuilder, block: FoldedAttention, background: Matrix, snippets: str, discarded: _Discarded
) -> str:
    """What the cross-adaptation adds to prompts and background, its bias included: snippets (B, T, C) -> (B, K+1, C).

    The discarded snippets are zero. So a prompt gathers the kept snippets' mean, under its attention to them, times the
    share of its attention that they get in all.
    """
    H, C = block.heads, block.output.shape[1]
    background_queries = (background.astype(np.float64) @ block.query).reshape(H, C).astype(np.float32)
    background_query = graph.weight("background_query", background_queries.T[:, :, None])  # (C, H, 1)
    columns = graph.op("Concat", layout.MEAN_QUERY, background_query, axis=2)
    columns = graph.op("Reshape", columns, graph.integers(C, 2 * H))  # a head's two queries side by side
    scores = graph.op("MatMul", snippets, columns)  # (B, T, 2*H)
    scores = graph.op("Sub", scores, discarded.barrier)
    scores = graph.op("Transpose", scores, perm=[0, 2, 1])  # (B, 2*H, T)
    weights = graph.op("Softmax", scores, axis=-1)
    gathered = graph.op("Reshape", graph.op("MatMul", weights, snippets), graph.integers(0, H, 2, C))
    odds = graph.op("ReduceLogSumExp", scores, graph.integers(2), keepdims=1)  # (B, 2*H, 1)
    odds = graph.op("Reshape", graph.op("Sub", odds, discarded.log_count), graph.integers(0, H, 2, 1))
    values = _apply_outputs(graph, "adaptation.output", block, gathered)  # (B, H, 2, C)

    column = graph.op("Reshape", _first_row(graph, gathered), graph.integers(0, H, C, 1))
    more = graph.op("MatMul", layout.QUERY_SPREAD, column)  # (B, H, K, 1)
    odds = _share_odds(graph, graph.op("Add", more, _first_row(graph, odds)), odds)  # (B, H, 2, K+1)
    shares = graph.op("Sigmoid", graph.op("Reshape", odds, graph.integers(0, 2 * H, -1)))
    one_more = graph.integers(0, 0, 0, 0, 1, 0)
    shares = graph.op("Pad", shares, one_more, graph.number(1))  # (B, 2*H+1, K+1), the last row for the bias
    values = graph.op("Pad", graph.op("Reshape", values, graph.integers(0, 2 * H, C)), one_more)  # (B, 2*H+1, C)
    bias = np.concatenate([np.zeros((2 * H, C), np.float32), block.bias.reshape(1, C)])
    values = graph.op("Add", values, graph.weight("adaptation.bias", bias))
    return graph.op("MatMul", graph.op("Transpose", shares, perm=[0, 2, 1]), values)


def _share_odds(graph: GraphBuilder, prompts: str, odds: str) -> str:
    """The odds of what the mean query gathers, and the background's, for all prompts and the background.

    A prompt has nothing of what the background's query gathers, and the other way round.

    Args:
        graph: receives the operators.
        prompts: (B, H, K, 1)
        odds: (B, H, 2, 1), of which the second is the background's.

    Returns:
        (B, H, 2, K+1)
    """
    never = graph.number(-_FAR)
    prompts = graph.op("Transpose", prompts, perm=[0, 1, 3, 2])  # (B, H, 1, K)
    prompts = graph.op("Pad", prompts, graph.integers(0, 0, 0, 0, 0, 0, 1, 0), never)  # (B, H, 2, K)
    background = graph.op("Gather", odds, graph.integers(1), axis=2)  # (B, H, 1, 1)
    background = graph.op("Pad", background, graph.integers(0, 0, 1, 0, 0, 0, 0, 0), never)  # (B, H, 2, 1)
    return graph.op("Concat", prompts, background, axis=3)


def _apply_outputs(graph: GraphBuilder, name: str, block: FoldedAttention, rows: str) -> str:
    """Multiply the rows of each head by its output matrix: (B, H, N, C) -> (B, H, N, C)."""
    H, C = block.heads, block.output.shape[1]
    matrices, names = block.output.reshape(H, C, C), [f"{name}.{h}" for h in range(H)]
    rows, factor = _round_rows(graph, rows, names[0])
    parts = graph.ops("Split", rows, outputs=H, axis=1, num_outputs=H)  # (B, 1, N, C) each
    layers = list(zip(names, parts, matrices, strict=True))
    if names[0] not in graph.schemes:
        return graph.op("Mul", graph.op("Concat", *[graph.linear(*layer) for layer in layers], axis=1), factor)
    products, steps = zip(*[_multiply_integers(graph, *layer) for layer in layers], strict=True)
    product = graph.op("Cast", graph.op("Concat", *products, axis=1), to=onnx.TensorProto.FLOAT)
    scale = graph.weight(f"{name}.scale", np.stack(steps)[:, None])  # (H, 1, C)
    return graph.op("Mul", graph.op("Mul", product, scale), factor)


def _round_rows(graph: GraphBuilder, rows: str, name: str) -> tuple[str, str]:
    """Round each row to bytes by its largest number, if a layer is quantized, so that they suit rows of any size.

    Args:
        graph: receives the operators.
        rows: (..., C)
        name: of a layer that reads the rows, or parts of them; others that do have the same scheme.

    Returns:
        What ``_multiply`` multiplies, (..., C), and what its product has to be multiplied by, (..., 1).
    """
    scheme = graph.schemes.get(name)
    largest = graph.op("ReduceMax", graph.op("Abs", rows), graph.integers(-1), keepdims=1)
    largest = graph.op("Max", largest, graph.number(_TINY))
    rows = graph.op("Div", rows, largest)
    if scheme is None:
        return rows, largest
    assert isinstance(scheme, StaticScheme)
    step = graph.number(scheme.scale)
    return graph.op("QuantizeLinear", rows, step, graph.byte(scheme.zero_point)), graph.op("Mul", largest, step)


def _multiply(graph: GraphBuilder, name: str, rows: str, weights: Matrix) -> str:
    """Multiply rows of ``_round_rows`` (..., C) by a layer's weights (C, N) -> (..., N)."""
    if name not in graph.schemes:
        return graph.linear(name, rows, weights)
    product, steps = _multiply_integers(graph, name, rows, weights)
    return graph.op("Mul", graph.op("Cast", product, to=onnx.TensorProto.FLOAT), graph.weight(f"{name}.scale", steps))


def _multiply_integers(graph: GraphBuilder, name: str, rows: str, weights: Matrix) -> tuple[str, Matrix]:
    """The product (..., N) of int32 of bytes (..., C) and a layer's weights (C, N), and the steps of its columns."""
    scheme = graph.schemes[name]
    assert isinstance(scheme, StaticScheme)
    rounded, steps = scheme.quantize(weights)  # (C, N), (N,)
    zero = graph.byte(scheme.zero_point)
    return graph.op("MatMulInteger", rows, graph.weight(name, rounded), zero), steps


def _by_head(graph: GraphBuilder, rows: str, count: int, H: int, C: int) -> str:
    """Rows of all heads side by side, as rows of one head after the other: (B, count, H*C) -> (B, H*count, C)."""
    rows = graph.op("Reshape", rows, graph.integers(0, count, H, C))
    rows = graph.op("Transpose", rows, perm=[0, 2, 1, 3])  # (B, H, count, C)
    return graph.op("Reshape", rows, graph.integers(0, H * count, C))


def _first_row(graph: GraphBuilder, values: str) -> str:
    """The first row of each head: (B, H, N, D) -> (B, H, 1, D)."""
    return graph.op("Gather", values, graph.integers(0), axis=2)
