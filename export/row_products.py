"""Products of a few rows with quantized weights, where each row is rounded by its own largest number.

So rows of any size are rounded alike, and nothing has to be calibrated. Shapes as in ``stale_export.fast_localizer``.
"""

import numpy as np
import onnx

from stale_export.folding import FoldedAttention, Matrix
from stale_export.graph_builder import GraphBuilder
from stale_export.schemes import StaticScheme

_TINY = 1e-30


def apply_outputs(graph: GraphBuilder, name: str, block: FoldedAttention, rows: str) -> str:
    """Multiply the rows of each head by its output matrix: (B, H, N, C) -> (B, H, N, C)."""
    H, C = block.heads, block.output.shape[1]
    matrices, names = block.output.reshape(H, C, C), [f"{name}.{h}" for h in range(H)]
    rows, factor = round_rows(graph, rows, names[0])
    parts = graph.ops("Split", rows, outputs=H, axis=1, num_outputs=H)  # (B, 1, N, C) each
    layers = list(zip(names, parts, matrices, strict=True))
    if names[0] not in graph.schemes:
        return graph.op("Mul", graph.op("Concat", *[graph.linear(*layer) for layer in layers], axis=1), factor)
    products, steps = zip(*[_multiply_integers(graph, *layer) for layer in layers], strict=True)
    product = graph.op("Cast", graph.op("Concat", *products, axis=1), to=onnx.TensorProto.FLOAT)
    scale = graph.weight(f"{name}.scale", np.stack(steps)[:, None])  # (H, 1, C)
    return graph.op("Mul", graph.op("Mul", product, scale), factor)


def round_rows(graph: GraphBuilder, rows: str, name: str) -> tuple[str, str]:
    """Round each row to bytes by its largest number, if a layer is quantized, so that they suit rows of any size.

    Args:
        graph: receives the operators.
        rows: (..., C)
        name: of a layer that reads the rows, or parts of them; others that do have the same scheme.

    Returns:
        What ``multiply_rows`` multiplies, (..., C), and what its product has to be multiplied by, (..., 1).
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


def multiply_rows(graph: GraphBuilder, name: str, rows: str, weights: Matrix) -> str:
    """Multiply rows of ``round_rows`` (..., C) by a layer's weights (C, N) -> (..., N)."""
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


def first_row(graph: GraphBuilder, values: str) -> str:
    """The first row of each head: (B, H, N, D) -> (B, H, 1, D)."""
    return graph.op("Gather", values, graph.integers(0), axis=2)
