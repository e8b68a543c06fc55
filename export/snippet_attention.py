"""Attention among the snippets of a video, as the deployed localizer computes it.

Shapes as in ``stale_export.localizer_graph``: B videos, S snippets of a video as it is given, T snippets that the
network sees, C channels, H heads.
"""

import onnx

from stale_export.float_attention import attend, attend_resampled
from stale_export.folding import FoldedAttention
from stale_export.graph_builder import GraphBuilder
from stale_export.graph_parts import Positions, add_and_normalize, interpolate_rows, row_positions
from stale_export.integer_attention import INTEGER_OPERATORS_BY_LAYER, attend_in_integers
from stale_runtime.bundle import layout

_FEATURES, _LENGTH = layout.FEATURES, layout.LENGTH


def embed_snippets(graph: GraphBuilder, block: FoldedAttention, C: int) -> str:
    """Attention among the snippets: features (B, S, C) and length T -> (B, T, C)."""
    length = graph.op("Unsqueeze", _LENGTH, graph.integers(0))  # (1,)
    count = graph.op("Shape", _FEATURES, start=1, end=2)  # (1,), which is S
    is_short = graph.op("Squeeze", graph.op("Less", count, length))  # ()
    positions = row_positions(graph, count, _LENGTH)
    features = graph.op(
        "If", is_short, then_branch=_resample_features(positions), else_branch=_pass_features()
    )  # (B, T, C)
    if INTEGER_OPERATORS_BY_LAYER.keys() & graph.schemes.keys():
        of_mean, around_mean = attend_in_integers(graph, block, features, positions, is_short)  # (B, 1, C), (B, T, C)
        return add_and_normalize(graph, "embedding", block, of_mean, graph.op("Add", around_mean, features))
    queries = graph.linear("embedding.query", _FEATURES, block.query)  # (B, S, H*C)
    gathered = graph.op(
        "If",
        is_short,
        then_branch=_attend_resampled(queries, positions, block.heads, C),
        else_branch=_attend_directly(queries, block.heads),
    )  # (B, T, H*C)
    mixed = graph.linear("embedding.output", gathered, block.output)  # (B, T, C)
    return add_and_normalize(graph, "embedding", block, mixed, features)  # (B, T, C)


def _resample_features(positions: Positions) -> onnx.GraphProto:
    """Resample the features: (B, S, C) -> (B, T, C)."""
    graph = GraphBuilder("stretch/")
    return graph.subgraph([interpolate_rows(graph, _FEATURES, positions, axis=1)])


def _pass_features() -> onnx.GraphProto:
    """Return the features unchanged: (B, T, C), for S = T."""
    graph = GraphBuilder("unchanged/")
    return graph.subgraph([graph.op("Identity", _FEATURES)])


def _attend_directly(queries: str, heads: int) -> onnx.GraphProto:
    """Attention to features that have T snippets: queries (B, T, H*C) -> (B, T, H*C)."""
    graph = GraphBuilder("plain/")
    keys = graph.op("Transpose", _FEATURES, perm=[0, 2, 1])  # (B, C, T)
    return graph.subgraph([attend(graph, queries, keys, _FEATURES, heads)])


def _attend_resampled(queries: str, positions: Positions, heads: int, C: int) -> onnx.GraphProto:
    """Attention to resampled features: queries (B, S, H*C) -> (B, T, H*C), for S < T."""
    graph = GraphBuilder("stretched/")
    return graph.subgraph([attend_resampled(graph, queries, _FEATURES, positions, heads, C)])
