"""Attention among the snippets of a video with its large products in 8-bit integers.

Softmax does not change if the same number is added to all scores of a query, and its weights sum to one. So keys and
values may be x - μ instead of x, with any vector μ, here the mean of the video's snippets: the result is then
Σ wⱼ·(xⱼ - μ), and lacks only μ. Snippets of one video resemble one another, so x - μ is small, and integers represent
it more finely than x. The layer after attention is linear, so μ, by far the largest part of its input, is multiplied
in float, once for the whole video.

Each range belongs to one video, or to a part of it: the other videos of a batch have no influence. Keys and values have
one step for the video, and attention weights one for each query: 1/255 of its largest weight. A weight that is rounded
to zero leaves its share to μ, because the others are not scaled up.

Shapes as in ``stale_export.snippet_attention``; N: snippets of a tile.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from stale_export.float_attention import attend_resampled
from stale_export.folding import FoldedAttention
from stale_export.graph_builder import GraphBuilder, RoundedRows
from stale_export.graph_parts import Positions
from stale_export.schemes import TINY, Scheme, VideoScheme
from stale_runtime.bundle import layout

ATTENTION = "embedding.attention"
"""Name of the two products with a video's snippets, among the layers that can be quantized."""
INTEGER_OPERATORS_BY_LAYER: Mapping[str, int] = {ATTENTION: 2, "embedding.query": 2, "embedding.output": 2}
"""Integer operators that a quantized layer becomes, where it is more than one: the linear layers occur twice, because
videos of few snippets are computed in another way."""

TILE_ROWS = 512
"""Rows of queries in a tile, at most. A row belongs to one head of one snippet."""


def attention_schemes(weight_bits: int) -> dict[str, Scheme]:
    """The quantization of the layers of this module; keys and values of attention stand where a layer has weights."""
    return {name: VideoScheme(weight_bits=weight_bits) for name in INTEGER_OPERATORS_BY_LAYER}


def attend_in_integers(
    graph: GraphBuilder, block: FoldedAttention, features: str, positions: Positions, is_short: str
) -> tuple[str, str]:
    """Attention among the snippets, without the bias and what follows.

    Args:
        graph: receives the operators; its input ``layout.FEATURES`` is (B, S, C).
        block: gives the weights.
        features: (B, T, C), the same features resampled.
        positions: where the T snippets lie among the S.
        is_short: () of bool, whether S < T.

    Returns:
        What to add up: for each video (B, 1, C), and for each snippet (B, T, C).
    """
    H, C = block.heads, block.output.shape[1]
    count = graph.op("Shape", layout.FEATURES, start=1, end=2)  # (1,), which is S
    ones = graph.op("Expand", graph.number(1), graph.op("Concat", graph.integers(1), count, axis=0))  # (1, S)
    share = graph.op("Div", ones, graph.op("Cast", count, to=onnx.TensorProto.FLOAT))
    mean = graph.op("MatMul", share, layout.FEATURES)  # (B, 1, C)
    are_few = graph.op("Squeeze", graph.op("Less", count, graph.integers(C // 2)))  # ()
    is_sparse = graph.op("And", is_short, are_few)  # ()
    videos = graph.op("Squeeze", graph.op("Shape", features, end=1))  # (), which is B
    body = _attend_in_video(graph.schemes, block, features, mean, positions, is_sparse)
    around_mean = graph.op("Loop", videos, "", body=body)  # (B, T, C)
    of_all_heads = block.output.reshape(H, C, C).sum(axis=0, dtype=np.float64).astype(np.float32)  # (C, C)
    return graph.op("MatMul", mean, graph.weight("embedding.output_of_mean", of_all_heads)), around_mean


def _attend_in_video(
    schemes: Mapping[str, Scheme],
    block: FoldedAttention,
    features: str,
    mean: str,
    positions: Positions,
    is_sparse: str,
) -> onnx.GraphProto:
    """Attention in one video, whose number is the loop's: features (B, T, C), mean (B, 1, C) -> (T, C)."""
    graph = GraphBuilder("video/", schemes)
    number = f"{graph.prefix}number"
    H, C = block.heads, block.output.shape[1]
    mean = graph.op("Gather", mean, number, axis=0)  # (1, C)
    snippets = graph.op("Gather", features, number, axis=0)  # (T, C)
    length = graph.op("Shape", snippets, end=1)  # (1,), which is T
    tiles = _divide_up(graph, length, graph.integers(max(TILE_ROWS // H, 1)))  # (1,)
    size = _divide_up(graph, length, tiles)  # (1,), which is N
    tiles = graph.op("Where", is_sparse, graph.integers(0), tiles)
    body = _attend_in_tile(graph, block, snippets, mean, size)
    dense = graph.op("Reshape", graph.op("Loop", graph.op("Squeeze", tiles), "", body=body), graph.integers(-1, C))
    sparse = graph.op(
        "If",
        is_sparse,
        then_branch=_attend_sparsely(graph, block, number, mean, positions),
        else_branch=_no_rows(C),
    )
    rows = graph.op("Concat", dense, sparse, axis=0)  # (T or more, C)
    return graph.loop(number, [graph.op("Slice", rows, graph.integers(0), length)])  # (T, C)


def _attend_sparsely(
    outer: GraphBuilder, block: FoldedAttention, number: str, mean: str, positions: Positions
) -> onnx.GraphProto:
    """Attention to resampled features, from the S < T given ones in float: (T, C). It is faster while S is small."""
    graph = GraphBuilder("stretched/", outer.schemes, outer=outer)
    H, C = block.heads, block.output.shape[1]
    number = graph.op("Unsqueeze", number, graph.integers(0))
    features = graph.op("Gather", layout.FEATURES, number, axis=0)  # (1, S, C)
    queries = graph.linear("embedding.query", features, block.query)  # (S, H*C)
    queries = graph.op("Reshape", queries, graph.integers(1, -1, H * C))  # (1, S, H*C)
    gathered = attend_resampled(graph, queries, graph.op("Sub", features, mean), positions, H, C)  # (1, T, H*C)
    mixed = graph.linear("embedding.output", gathered, block.output)  # (T, C)
    return graph.subgraph([graph.op("Reshape", mixed, graph.integers(-1, C))])


def _no_rows(C: int) -> onnx.GraphProto:
    """A matrix without rows, (0, C)."""
    graph = GraphBuilder("dense/")
    return graph.subgraph([graph.op("ConstantOfShape", graph.integers(0, C))])


def _attend_in_tile(
    outer: GraphBuilder, block: FoldedAttention, snippets: str, mean: str, size: str
) -> onnx.GraphProto:
    """Attention of one tile of snippets, whose number is the loop's, to all snippets of the video.

    Args:
        outer: the graph of the video.
        block: gives the weights.
        snippets: (T, C)
        mean: (1, C)
        size: N, (1,).

    Returns:
        (N, C); in the last tile, rows after the last snippet are zeros.
    """
    graph = GraphBuilder("tile/", outer.schemes, outer=outer)
    number = f"{graph.prefix}number"
    H, C = block.heads, block.output.shape[1]
    memory = outer.op("Sub", snippets, mean)  # (T, C)
    start = graph.op("Mul", graph.op("Unsqueeze", number, graph.integers(0)), size)  # (1,)
    tile = graph.op("Slice", snippets, start, graph.op("Add", start, size))  # (N or fewer, C)
    queries = graph.linear("embedding.query", tile, block.query)  # (N, H*C)
    gathered = _gather(outer, graph, queries, memory, C)  # (N*H, C)
    gathered = graph.op("Reshape", gathered, graph.integers(-1, H * C))  # (N, H*C)
    mixed = graph.linear("embedding.output", gathered, block.output)  # (N, C)
    missing = graph.op("Sub", size, graph.op("Shape", mixed, end=1))  # (1,)
    pads = graph.op("Concat", graph.integers(0, 0), missing, graph.integers(0), axis=0)
    return graph.loop(number, [graph.op("Pad", mixed, pads)])


def _gather(outer: GraphBuilder, graph: GraphBuilder, queries: str, memory: str, C: int) -> str:
    """Softmax attention of a tile, in integers if there is a scheme for it.

    Args:
        outer: the graph of the video, which gets what all tiles share.
        graph: the graph of the tile.
        queries: (N, H*C)
        memory: (T, C), keys and values.
        C: width of a query.

    Returns:
        (N*H, C)
    """
    scheme = graph.schemes.get(ATTENTION)
    if scheme is None:
        keys = outer.op("Transpose", memory, perm=[1, 0])  # (C, T)
        rows = graph.op("Reshape", queries, graph.integers(-1, C))  # (N*H, C)
        return graph.op("MatMul", graph.op("Softmax", graph.op("MatMul", rows, keys), axis=-1), memory)
    step = _step(outer, memory, scheme.most)  # ()
    values = outer.op("QuantizeLinear", memory, step, outer.weight("zero", np.array(0, np.int8)))  # (T, C) of int8
    keys = outer.op("Transpose", values, perm=[1, 0])  # (C, T)
    scores = graph.multiply_rounded(graph.round_rows(queries, C), keys, step)  # (N*H, T)
    weights, largest = _round_weights(graph, graph.op("Softmax", scores, axis=-1))  # (N*H, T), (N*H, 1)
    return graph.op("Mul", graph.multiply_rounded(weights, values, step), largest)


def _round_weights(graph: GraphBuilder, weights: str) -> tuple[RoundedRows, str]:
    """Round attention weights (R, T) as shares of the largest of each row, and return that, (R, 1), beside them."""
    largest = graph.op("ReduceMax", weights, graph.integers(1), keepdims=1)  # (R, 1)
    # QuantizeLinear could divide, too, but OpenVINO 2026.4 then finds no shape for what follows.
    shares = graph.op("Div", weights, largest)
    step, zero = graph.number(1 / 255), graph.byte(0)
    return RoundedRows(graph.op("QuantizeLinear", shares, step, zero), step, zero), largest


def _step(graph: GraphBuilder, values: str, most: int) -> str:
    """The step with which the largest absolute value becomes the integer ``most``, ()."""
    lowest = graph.op("Neg", graph.op("ReduceMin", values, keepdims=0))
    largest = graph.op("Max", graph.op("ReduceMax", values, keepdims=0), lowest)
    return graph.op("Max", graph.op("Mul", largest, graph.number(1 / most)), graph.number(TINY))


def _divide_up(graph: GraphBuilder, number: str, divisor: str) -> str:
    """The quotient of integers, rounded up: (1,)."""
    return graph.op("Div", graph.op("Add", number, graph.op("Sub", divisor, graph.integers(1))), divisor)
