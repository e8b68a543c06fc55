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

import numpy as np
import onnx

from stale_export.float_attention import attend_resampled
from stale_export.folding import FoldedAttention
from stale_export.graph_builder import GraphBuilder
from stale_export.graph_parts import Positions
from stale_export.schemes import AttentionScheme
from stale_runtime.bundle import layout

ATTENTION = "embedding.attention"
"""Name of the two products with the T×T attention weights, among the layers that can be quantized."""
PRODUCTS = 2
TILE_ROWS = 512
"""Rows of queries in a tile, at most. A row belongs to one head of one snippet."""
_ZERO = 128
"""The byte that stands for 0 in a query."""
_TINY = float(np.finfo(np.float32).tiny)


def attend_in_integers(
    graph: GraphBuilder, block: FoldedAttention, features: str, positions: Positions, is_short: str
) -> str:
    """Attention among the snippets, without the bias and what follows.

    Args:
        graph: receives the operators; its input ``layout.FEATURES`` is (B, S, C).
        block: gives the weights.
        features: (B, T, C), the same features resampled.
        positions: where the T snippets lie among the S.
        is_short: () of bool, whether S < T.

    Returns:
        (B, T, C)
    """
    _, C = block.output.shape
    total = graph.op("Shape", layout.FEATURES, start=1, end=2)  # (1,), which is S
    few = graph.op("Squeeze", graph.op("Less", total, graph.integers(C // 2)))  # ()
    ones = graph.op("Expand", graph.number(1), graph.op("Concat", graph.integers(1), total, axis=0))  # (1, S)
    share = graph.op("Div", ones, graph.op("Cast", total, to=onnx.TensorProto.FLOAT))
    mean = graph.op("MatMul", share, layout.FEATURES)  # (B, 1, C)
    around_mean = graph.op(
        "If",
        graph.op("And", is_short, few),
        then_branch=_attend_sparsely(graph, block, mean, positions),
        else_branch=_attend_densely(graph, block, mean, features),
    )  # (B, T, C)
    H = block.heads
    together = block.output.reshape(H, C, C).sum(axis=0, dtype=np.float64).astype(np.float32)  # (C, C)
    of_mean = graph.op("MatMul", mean, graph.weight("embedding.output_of_mean", together))  # (B, 1, C)
    return graph.op("Add", around_mean, of_mean)


def _attend_sparsely(outer: GraphBuilder, block: FoldedAttention, mean: str, positions: Positions) -> onnx.GraphProto:
    """Attention to resampled features, computed from S < T snippets in float, which for few snippets is faster."""
    graph = GraphBuilder("stretched/", outer=outer)
    C, H = block.output.shape[1], block.heads
    queries = _multiply_snippets(graph, "embedding.query", layout.FEATURES, block.query)  # (B, S, H*C)
    memory = graph.op("Sub", layout.FEATURES, mean)  # (B, S, C)
    gathered = attend_resampled(graph, queries, memory, positions, H, C)  # (B, T, H*C)
    return graph.subgraph([_multiply_snippets(graph, "embedding.output", gathered, block.output)])  # (B, T, C)


def _multiply_snippets(graph: GraphBuilder, name: str, x: str, weights: np.ndarray) -> str:
    """A linear layer whose scheme may be that of rows: (B, N, M) -> (B, N, any)."""
    M, _ = weights.shape
    rows = graph.linear(name, graph.op("Reshape", x, graph.integers(-1, M)), weights)  # (B*N, any)
    whole = graph.op("Concat", graph.op("Shape", x, end=2), graph.integers(-1), axis=0)
    return graph.op("Reshape", rows, whole)


def _attend_densely(outer: GraphBuilder, block: FoldedAttention, mean: str, features: str) -> onnx.GraphProto:
    """Attention to T snippets, one video after the other."""
    graph = GraphBuilder("plain/", outer=outer)
    queries = _multiply_snippets(graph, "embedding.query", features, block.query)  # (B, T, H*C)
    memory = graph.op("Sub", features, mean)  # (B, T, C)
    videos = graph.op("Squeeze", graph.op("Shape", features, end=1))  # ()
    body = _attend_in_video(graph, block, queries, memory)
    return graph.subgraph([graph.op("Loop", videos, "", body=body)])  # (B, T, C)


def _attend_in_video(outer: GraphBuilder, block: FoldedAttention, queries: str, memory: str) -> onnx.GraphProto:
    """Attention of one video, whose number is the loop's: queries (B, T, H*C), memory (B, T, C) -> (T, C)."""
    graph = GraphBuilder("video/", outer=outer)
    scheme = graph.schemes[ATTENTION]
    assert isinstance(scheme, AttentionScheme)
    C, H = block.output.shape[1], block.heads
    number = f"{graph.prefix}number"
    values = graph.op("Gather", memory, number, axis=0)  # (T, C)
    step = graph.op("Mul", _largest(graph, values), graph.number(1 / scheme.most))
    step = graph.op("Max", step, graph.number(_TINY))  # ()
    values = graph.op("QuantizeLinear", values, step, graph.weight("zero", np.array(0, np.int8)))  # (T, C) of int8
    keys = graph.op("Transpose", values, perm=[1, 0])  # (C, T)

    length = graph.op("Shape", values, end=1)  # (1,), which is T
    parts = _divide_up(graph, length, graph.integers(max(TILE_ROWS // H, 1)))  # (1,)
    size = _divide_up(graph, length, parts)  # (1,), which is N
    body = _attend_in_tile(graph, block, queries, size, keys, values, step)
    tiles = graph.op("Loop", graph.op("Squeeze", parts), "", body=body)  # (parts, N, C)
    rows = graph.op("Reshape", tiles, graph.integers(-1, C))
    return graph.loop(number, [graph.op("Slice", rows, graph.integers(0), length)])  # (T, C)


def _attend_in_tile(
    outer: GraphBuilder, block: FoldedAttention, queries: str, size: str, keys: str, values: str, step: str
) -> onnx.GraphProto:
    """Attention of one tile of snippets, whose number is the loop's, to all snippets of the video.

    Args:
        outer: the graph of the video.
        block: gives the weights.
        queries: (B, T, H*C)
        size: N, (1,).
        keys: (C, T) of int8.
        values: (T, C) of int8.
        step: () of float32, between two neighbouring integers of keys and values.

    Returns:
        (N, C); in the last tile the rows after the last snippet are zeros.
    """
    graph = GraphBuilder("tile/", outer=outer)
    C, H = block.output.shape[1], block.heads
    number = f"{graph.prefix}number"
    video = graph.op("Unsqueeze", f"{outer.prefix}number", graph.integers(0))  # (1,)
    start = graph.op("Mul", graph.op("Unsqueeze", number, graph.integers(0)), size)  # (1,)
    first = graph.op("Concat", video, start, axis=0)
    last = graph.op("Concat", graph.op("Add", video, graph.integers(1)), graph.op("Add", start, size), axis=0)
    tile = graph.op("Slice", queries, first, last, graph.integers(0, 1))  # (1, N or fewer, H*C)
    tile = graph.op("Reshape", tile, graph.integers(-1, C))  # (N*H, C)

    tile_step = graph.op("Mul", _largest(graph, tile), graph.number(1 / (255 - _ZERO)))
    tile_step = graph.op("Max", tile_step, graph.number(_TINY))  # ()
    zero = graph.byte(_ZERO)
    tile = graph.op("QuantizeLinear", tile, tile_step, zero)  # (N*H, C) of uint8
    scores = graph.op("Cast", graph.op("MatMulInteger", tile, keys, zero), to=onnx.TensorProto.FLOAT)
    scores = graph.op("Mul", scores, graph.op("Mul", tile_step, step))  # (N*H, T)
    weights = graph.op("Softmax", scores, axis=-1)
    largest = graph.op("ReduceMax", weights, graph.integers(1), keepdims=0)  # (N*H,)
    weight_step = graph.op("Mul", largest, graph.number(1 / 255))
    zeros = graph.op("Expand", graph.byte(0), graph.op("Shape", weight_step))
    weights = graph.op("QuantizeLinear", weights, weight_step, zeros, axis=0)  # (N*H, T) of uint8
    gathered = graph.op("Cast", graph.op("MatMulInteger", weights, values), to=onnx.TensorProto.FLOAT)  # (N*H, C)
    steps = graph.op("Unsqueeze", graph.op("Mul", weight_step, step), graph.integers(1))  # (N*H, 1)
    gathered = graph.op("Reshape", graph.op("Mul", gathered, steps), graph.integers(-1, H * C))  # (N, H*C)
    mixed = graph.linear("embedding.output", gathered, block.output)  # (N, C)
    missing = graph.op("Sub", size, graph.op("Shape", mixed, end=1))  # (1,)
    pads = graph.op("Concat", graph.integers(0, 0), missing, graph.integers(0), axis=0)
    return graph.loop(number, [graph.op("Pad", mixed, pads)])


def _largest(graph: GraphBuilder, values: str) -> str:
    """The largest absolute value, ()."""
    lowest = graph.op("Neg", graph.op("ReduceMin", values, keepdims=0))
    return graph.op("Max", graph.op("ReduceMax", values, keepdims=0), lowest)


def _divide_up(graph: GraphBuilder, number: str, divisor: str) -> str:
    """The quotient of integers, rounded up: (1,)."""
    return graph.op("Div", graph.op("Add", number, graph.op("Sub", divisor, graph.integers(1))), divisor)
