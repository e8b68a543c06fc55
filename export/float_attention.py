"""Attention among the snippets of a video in float, see ``stale_export.snippet_attention`` for the shapes."""

import onnx

from stale_export.graph_builder import GraphBuilder
from stale_export.graph_parts import Positions, interpolate_rows

LONG = 1024
"""Number of snippets above which attention is computed in tiles. Above it, tiles are faster and take much less memory;
below it, they are slower."""
TILE = 512
"""Rows of queries in a tile."""


def attend_resampled(graph: GraphBuilder, queries: str, memory: str, positions: Positions, heads: int, C: int) -> str:
    """Attention to resampled snippets, from the S < T given ones: (B, S, H*C) and (B, S, C) -> (B, T, H*C).

    Resampling is linear: x = R·f, with features f (S, C) and a matrix R (T, S) of interpolation weights. The folded
    queries of the video's own snippets are q = f·A. So the attention weights are W = softmax(R·(q·fᵀ)·Rᵀ), and the
    result is W·x = (W·R)·f. The products with W are then S wide instead of C.
    """
    rows = graph.op("Reshape", queries, graph.integers(0, -1, C))  # (B, S*H, C)
    scores = graph.op("MatMul", rows, graph.op("Transpose", memory, perm=[0, 2, 1]))  # (B, S*H, S)
    size = graph.op("Shape", memory, start=1, end=2)  # (1,), which is S
    wide = graph.op("Concat", graph.integers(0), size, graph.integers(-1), axis=0)
    scores = interpolate_rows(graph, graph.op("Reshape", scores, wide), positions, axis=1)  # (B, S, H*S) -> (B, T, H*S)
    square = graph.op("ConstantOfShape", graph.op("Concat", size, size, axis=0))  # (S, S)
    resampling = interpolate_rows(graph, graph.op("EyeLike", square), positions, axis=0)  # (S, S) -> (T, S)
    batch = graph.op("Unsqueeze", resampling, graph.integers(0))  # (1, T, S)
    keys = graph.op("Transpose", batch, perm=[0, 2, 1])  # (1, S, T)
    gathered = attend(graph, scores, keys, batch, heads)  # (B, T, H*S)
    narrow = graph.op("Concat", graph.integers(0, -1), size, axis=0)
    gathered = graph.op("MatMul", graph.op("Reshape", gathered, narrow), memory)  # (B, T*H, S) @ (B, S, C)
    return graph.op("Reshape", gathered, graph.integers(0, -1, heads * C))  # (B, T, H*C)


def attend(graph: GraphBuilder, queries: str, keys: str, values: str, heads: int) -> str:
    """Softmax attention of several heads that share their keys and values, which are D wide.

    Args:
        graph: receives the operators.
        queries: (B, T, H*D)
        keys: (B, D, T), or (1, D, T) for the whole batch.
        values: (B, T, D), or (1, T, D) for the whole batch.
        heads: H

    Returns:
        (B, T, H*D)
    """
    is_long = graph.op("Greater", graph.op("Shape", queries, start=1, end=2), graph.integers(LONG))
    return graph.op(
        "If",
        graph.op("Squeeze", is_long),
        then_branch=_attend_in_tiles(graph.prefix, queries, keys, values),
        else_branch=_attend_by_heads(graph.prefix, queries, keys, values, heads),
    )


def _attend_by_heads(prefix: str, queries: str, keys: str, values: str, heads: int) -> onnx.GraphProto:
    """Attention one head after the other; shapes as for ``attend``."""
    graph = GraphBuilder(f"{prefix}heads/")
    gathered = []
    for query in graph.ops("Split", queries, outputs=heads, axis=2, num_outputs=heads):  # (B, T, D)
        weights = graph.op("Softmax", graph.op("MatMul", query, keys), axis=-1)  # (B, T, T)
        gathered.append(graph.op("MatMul", weights, values))  # (B, T, D)
    return graph.subgraph([graph.op("Concat", *gathered, axis=2)])  # (B, T, H*D)


def _attend_in_tiles(prefix: str, queries: str, keys: str, values: str) -> onnx.GraphProto:
    """Attention one tile of queries after the other, so that memory grows with T and not with T².

    A row of queries belongs to one head of one snippet, and a tile has ``TILE`` rows. Shapes as for ``attend``.
    """
    graph = GraphBuilder(f"{prefix}tiles/")
    D = graph.op("Shape", values, start=2)  # (1,)
    flat = graph.op("Concat", graph.integers(0, -1), D, axis=0)
    rows = graph.op("Reshape", queries, flat)  # (B, T*H, D)
    count = graph.op("Shape", rows, start=1, end=2)  # (1,), which is T*H
    missing = graph.op("Mod", graph.op("Neg", count), graph.integers(TILE))  # rows up to the next multiple of TILE
    pads = graph.op("Concat", graph.integers(0, 0, 0, 0), missing, graph.integers(0), axis=0)
    tiled = graph.op("Concat", graph.integers(0, -1, TILE), D, axis=0)
    tiles = graph.op("Reshape", graph.op("Pad", rows, pads), tiled)  # (B, tiles, TILE, D)

    body = GraphBuilder(f"{prefix}tile/")
    number = f"{prefix}tile/number"
    tile = body.op("Gather", tiles, number, axis=1)  # (B, TILE, D)
    # This reshape to (B, TILE, T) changes nothing, but OpenVINO needs it to know the rank.
    scores = body.op("Reshape", body.op("MatMul", tile, keys), body.integers(0, TILE, -1))
    gathered = body.op("MatMul", body.op("Softmax", scores, axis=-1), values)  # (B, TILE, D)
    count_tiles = graph.op("Squeeze", graph.op("Shape", tiles, start=1, end=2))  # ()
    tiles = graph.op("Loop", count_tiles, "", body=body.loop(number, [gathered]))  # (tiles, B, TILE, D)
    tiles = graph.op("Transpose", tiles, perm=[1, 0, 2, 3])  # (B, tiles, TILE, D)
    padded = graph.op("Reshape", tiles, flat)  # (B, tiles*TILE, D)
    rows = graph.op("Slice", padded, graph.integers(0), count, graph.integers(1))  # (B, T*H, D)
    whole = graph.op("Concat", graph.op("Shape", queries, end=2), graph.integers(-1), axis=0)
    return graph.subgraph([graph.op("Reshape", rows, whole)])  # (B, T, H*D)
