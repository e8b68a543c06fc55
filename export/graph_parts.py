"""Pieces of the deployed graphs that several of their parts use: resampled rows, and parts of attention blocks."""

from typing import NamedTuple

import onnx

from stale_export.folding import FoldedAttention
from stale_export.graph_builder import GraphBuilder

_LEAST_ROW = 1e-30
"""What a row of zeros is divided by."""
ROUNDING = 2.0**-10
"""How far a share may be from the exact one. Float32 needs less than that, and bfloat16 would round it off anyway."""


class Positions(NamedTuple):
    """Names of the values that say where T resampled rows lie among S rows."""

    lower: str
    """(T,) of int64, index of the row below each position."""
    share: str
    """(T,) of float32, weight of the row above it, which is the next."""


def row_positions(graph: GraphBuilder, count: str, length: str) -> Positions:
    """Positions of T resampled rows among S rows, with half-pixel centres, clamped at the edges.

    Position t is ((2t + 1)S - T) / 2T. The row below it is computed in integers, because a runtime may round floats to
    bfloat16, which does not even have all integers above 256. Its share is the network's up to rounding in float32, and
    differs from the integers' by ``ROUNDING`` at most. At T = S the positions are those of the rows themselves.

    Args:
        graph: receives the operators.
        count: S, (1,) of int64.
        length: T, () of int64.
    """
    steps = graph.op("Range", graph.scalar(0), length, graph.scalar(1))  # (T,)
    last = graph.op("Sub", count, graph.integers(1))  # (1,)
    parts = graph.op("Mul", length, graph.scalar(2))  # (), which is 2T
    odd = graph.op("Add", graph.op("Mul", steps, graph.integers(2)), graph.integers(1))
    place = graph.op("Sub", graph.op("Mul", odd, count), length)  # (T,), the position times 2T
    place = graph.op("Min", graph.op("Max", place, graph.integers(0)), graph.op("Mul", last, parts))
    lower = graph.op("Div", place, parts)
    rest = graph.op("Sub", place, graph.op("Mul", lower, parts))
    exact = graph.op("Div", _as_float(graph, rest), _as_float(graph, parts))  # (T,)

    scale = graph.op("Div", _as_float(graph, count), _as_float(graph, length))  # (1,)
    centres = graph.op("Add", _as_float(graph, steps), graph.number(0.5))
    position = graph.op("Sub", graph.op("Mul", centres, scale), graph.number(0.5))  # (T,)
    position = graph.op("Min", graph.op("Max", position, graph.number(0)), _as_float(graph, last))
    share = graph.op("Sub", position, _as_float(graph, lower))
    share = graph.op("Max", share, graph.op("Sub", exact, graph.number(ROUNDING)))
    return Positions(lower, graph.op("Min", share, graph.op("Add", exact, graph.number(ROUNDING))))


def interpolate_rows(graph: GraphBuilder, values: str, positions: Positions, axis: int) -> str:
    """Interpolate linearly along an axis, which is the last but one: (..., S, D) -> (..., T, D).

    Args:
        graph: receives the operators.
        values: (..., S, D)
        positions: see ``row_positions``.
        axis: number of the axis.
    """
    lower, share = positions
    last = graph.op("Sub", graph.op("Shape", values, start=axis, end=axis + 1), graph.integers(1))
    upper = graph.op("Min", graph.op("Add", lower, graph.integers(1)), last)  # (T,)
    share = graph.op("Unsqueeze", share, graph.integers(1))  # (T, 1)
    below = graph.op("Mul", graph.op("Gather", values, lower, axis=axis), graph.op("Sub", graph.number(1), share))
    return graph.op("Add", below, graph.op("Mul", graph.op("Gather", values, upper, axis=axis), share))


def add_and_normalize(graph: GraphBuilder, name: str, block: FoldedAttention, mixed: str, residual: str) -> str:
    """The end of an attention block: bias, residual, LayerNorm; (B, N, C) and (B or 1, N, C) -> (B, N, C)."""
    biased = graph.op("Add", mixed, graph.weight(f"{name}.bias", block.bias))
    return normalize(graph, name, block, graph.op("Add", biased, residual))


def normalize(graph: GraphBuilder, name: str, block: FoldedAttention, rows: str) -> str:
    """An attention block's LayerNorm: (B, N, C) -> (B, N, C)."""
    return graph.op(
        "LayerNormalization",
        rows,
        graph.weight(f"{name}.norm_weight", block.norm_weight),
        graph.weight(f"{name}.norm_bias", block.norm_bias),
        axis=-1,
        epsilon=block.norm_epsilon,
    )


def scale_to_length_one(graph: GraphBuilder, rows: str) -> str:
    """Divide each row by its Euclidean length: (B, N, C) -> (B, N, C)."""
    return graph.op("Div", rows, graph.op("ReduceL2", rows, graph.integers(2), keepdims=1))


def _as_float(graph: GraphBuilder, values: str) -> str:
    return graph.op("Cast", values, to=onnx.TensorProto.FLOAT)
