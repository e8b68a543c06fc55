"""The end of the graph of ``ort-fast``: prompts are adapted to the kept snippets approximately, and compared with them.

A prompt attends to the kept snippets and to the discarded ones, which are zero. So what it gathers is the mean of the
kept ones, times the share of its attention that these get in all. The mean is that of the mean query of all prompts, by
exact softmax. The share is computed for each prompt, to first order in how its query differs from the mean. The
background's query has exact softmax of its own.

Shapes as in ``stale_export.fast_localizer``.
"""

from typing import NamedTuple

import numpy as np

from stale_export.folding import FoldedAttention, Matrix
from stale_export.graph_builder import GraphBuilder
from stale_export.graph_parts import normalize
from stale_export.row_products import apply_outputs, first_row
from stale_model import Stale
from stale_model.network.stale import LOGIT_SCALE, SCORE_FLOOR
from stale_runtime.bundle import layout

_FAR = 1e9
"""Much more than any score or feature of a snippet."""


class _Discarded(NamedTuple):
    """Names of the values that say which snippets are discarded."""

    barrier: str
    """(B, T, 1) of float32, ``_FAR`` for a discarded snippet and 0 for a kept one."""
    log_count: str
    """(B, 1, 1) logarithm of the number of discarded snippets."""


def classify_approximately(graph: GraphBuilder, network: Stale, snippets: str) -> None:
    """Adapt the prompts to the kept snippets, and compare both.

    Args:
        graph: receives the operators, and has the masks' outputs; the class activations become its output.
        network: gives the weights.
        snippets: (B, T, C)
    """
    block = FoldedAttention.of(network.cross_adaptation)
    background = network.background_embedding.detach().numpy()  # (1, C)
    discarded = _find_discarded(graph)
    mixed = _adapt(graph, block, background, snippets, discarded)  # (B, K+1, C)
    prompts = graph.op("Concat", layout.PROMPT_EMBEDDINGS, graph.weight("background", background), axis=0)  # (K+1, C)
    adapted = normalize(graph, "adaptation", block, graph.op("Add", mixed, prompts))  # (B, K+1, C)
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
    values = apply_outputs(graph, "adaptation.output", block, gathered)  # (B, H, 2, C)

    column = graph.op("Reshape", first_row(graph, gathered), graph.integers(0, H, C, 1))
    more = graph.op("MatMul", layout.QUERY_SPREAD, column)  # (B, H, K, 1)
    odds = _share_odds(graph, graph.op("Add", more, first_row(graph, odds)), odds)  # (B, H, 2, K+1)
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
