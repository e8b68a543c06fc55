"""Pieces of the deployed graph that several of its parts use: resampling rows, and the end of an attention block."""

import onnx

from stale_export.folding import FoldedAttention
from stale_export.graph_builder import GraphBuilder


def row_positions(graph: GraphBuilder, count: str, length: str) -> tuple[str, str]:
    """Positions of T resampled rows among S rows, with half-pixel centres, clamped at the edges.

    At T = S they are the positions of the rows themselves.

    Args:
        graph: receives the operators.
        count: S, (1,) of int64.
        length: T, (1,) of int64.

    Returns:
        Index of the row below each position, (T,) of int64, and the weight of the row above it, (T,) in [0, 1).
    """
    steps = graph.op("Range", graph.scalar(0), graph.op("Squeeze", length), graph.scalar(1))  # (T,)
    steps = graph.op("Add", graph.op("Cast", steps, to=onnx.TensorProto.FLOAT), graph.number(0.5))
    sizes = (graph.op("Cast", size, to=onnx.TensorProto.FLOAT) for size in (count, length))
    position = graph.op("Sub", graph.op("Mul", steps, graph.op("Div", *sizes)), graph.number(0.5))  # (T,)
    last = graph.op("Cast", graph.op("Sub", count, graph.integers(1)), to=onnx.TensorProto.FLOAT)
    position = graph.op("Min", graph.op("Max", position, graph.number(0)), last)
    lower = graph.op("Floor", position)
    return graph.op("Cast", lower, to=onnx.TensorProto.INT64), graph.op("Sub", position, lower)


def interpolate_rows(graph: GraphBuilder, values: str, lower: str, share: str, axis: int) -> str:
    """Interpolate linearly along an axis, which is the last but one: (..., S, D) -> (..., T, D).

    Args:
        graph: receives the operators.
        values: (..., S, D)
        lower: (T,), see ``row_positions``.
        share: (T,), see ``row_positions``.
        axis: number of the axis.
    """
    last = graph.op("Sub", graph.op("Shape", values, start=axis, end=axis + 1), graph.integers(1))
    upper = graph.op("Min", graph.op("Add", lower, graph.integers(1)), last)  # (T,)
    share = graph.op("Unsqueeze", share, graph.integers(1))  # (T, 1)
    below = graph.op("Mul", graph.op("Gather", values, lower, axis=axis), graph.op("Sub", graph.number(1), share))
    return graph.op("Add", below, graph.op("Mul", graph.op("Gather", values, upper, axis=axis), share))


def add_and_normalize(graph: GraphBuilder, name: str, block: FoldedAttention, mixed: str, residual: str) -> str:
    """The end of an attention block: bias, residual, LayerNorm; (B, N, C) and (B or 1, N, C) -> (B, N, C)."""
    biased = graph.op("Add", mixed, graph.weight(f"{name}.bias", block.bias))
    return graph.op(
        "LayerNormalization",
        graph.op("Add", biased, residual),
        graph.weight(f"{name}.norm_weight", block.norm_weight),
        graph.weight(f"{name}.norm_bias", block.norm_bias),
        axis=-1,
        epsilon=block.norm_epsilon,
    )


def scale_to_length_one(graph: GraphBuilder, rows: str) -> str:
    """Divide each row by its Euclidean length: (B, N, C) -> (B, N, C)."""
    return graph.op("Div", rows, graph.op("ReduceL2", rows, graph.integers(2), keepdims=1))
