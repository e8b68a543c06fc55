"""The end of the graph of ``ort-fast``: prompts are adapted to the kept snippets approximately, and compared with them.

A prompt attends to the kept snippets and to the discarded ones, which are zero. So what it gathers is the mean of the
kept ones, times the share of its attention that these get in all. The mean is that of the mean query of all prompts, by
exact softmax. The share is computed for each prompt, to first order in how its query differs from the mean. The
background's query has exact softmax of its own.

Shapes as in ``stale_export.fast_localizer``.
"""

from typing import NamedTuple

import numpy as np
import onnx

from stale_export.folding import FoldedAttention, Matrix
from stale_export.graph_builder import GraphBuilder
from stale_export.graph_parts import add_and_normalize, apply_outputs
from stale_model import Stale
from stale_model.network.stale import LOGIT_SCALE, SCORE_FLOOR
from stale_runtime.bundle import layout

_FAR = 1e9
"""Much more than any score or feature of a snippet."""


class _Discarded(NamedTuple):
    """Names of the values that say which snippets are discarded."""

    barrier: str
    """(B, T) of float32, ``_FAR`` for a discarded snippet and 0 for a kept one."""
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
    adapted = add_and_normalize(graph, "adaptation", block, mixed, prompts)  # (B, K+1, C)
    lengths = graph.op("ReduceL2", adapted, graph.integers(2), keepdims=1)
    adapted = graph.op("Mul", adapted, graph.op("Div", graph.number(LOGIT_SCALE), lengths))

    # The network sets a discarded snippet to zero, and numbers below the floor to the floor: its numbers are all equal
    # then, and only its direction matters. So a floor that is high enough does both.
    floor = graph.op("Max", discarded.barrier, graph.number(SCORE_FLOOR))  # (B, T)
    floored = graph.op("Max", snippets, graph.op("Unsqueeze", floor, graph.integers(2)))  # (B, T, C)
    lengths = graph.op("ReduceL2", floored, graph.integers(2), keepdims=0)  # (B, T)
    logits = graph.op("MatMul", adapted, graph.op("Transpose", floored, perm=[0, 2, 1]))  # (B, K+1, T)
    graph.name(layout.CAS_LOGITS, graph.op("Div", logits, graph.op("Unsqueeze", lengths, graph.integers(1))))


def _find_discarded(graph: GraphBuilder) -> _Discarded:
    dropped = graph.op("Sub", graph.number(1), layout.KEPT)  # (B, T), 1 or 0
    count = graph.op("ReduceSum", dropped, graph.integers(1), keepdims=1)  # (B, 1)
    log_count = graph.op("Unsqueeze", graph.op("Log", count), graph.integers(2))  # minus infinity for no snippet
    return _Discarded(graph.op("Mul", dropped, graph.number(_FAR)), log_count)


def _adapt(
    graph: GraphBuilder, block: FoldedAttention, background: Matrix, snippets: str, discarded: _Discarded
) -> str:
    """What the cross-adaptation adds to prompts and background: snippets (B, T, C) -> (B, K+1, C).

    The discarded snippets are zero. So a prompt gathers the kept snippets' mean, under its attention to them, times the
    share of its attention that they get in all.
    """
    H, C = block.heads, block.output.shape[1]
    background_queries = (background.astype(np.float64) @ block.query).reshape(H, C).astype(np.float32)
    mean = _mean_query(graph, H, C)  # (H, C)
    rows = graph.op("Concat", mean, graph.weight("background_query", background_queries), axis=0)  # (2*H, C)
    scores = graph.op("MatMul", rows, graph.op("Transpose", snippets, perm=[0, 2, 1]))  # (B, 2*H, T)
    scores = graph.op("Sub", scores, graph.op("Unsqueeze", discarded.barrier, graph.integers(1)))
    weights = graph.op("Softmax", scores, axis=-1)
    gathered = graph.op("Reshape", graph.op("MatMul", weights, snippets), graph.integers(0, 2, H, C))
    odds = graph.op("ReduceLogSumExp", scores, graph.integers(2), keepdims=1)  # (B, 2*H, 1)
    odds = graph.op("Reshape", graph.op("Sub", odds, discarded.log_count), graph.integers(0, 2, 1, H))

    values = apply_outputs(
        graph, "adaptation.output", block, graph.op("Transpose", gathered, perm=[0, 2, 1, 3])
    )  # (B, H, 2, C)
    values = graph.op("Transpose", values, perm=[0, 2, 1, 3])  # (B, 2, H, C)
    prompt_odds, background_odds = _two(graph, odds)  # (B, 1, H)
    prompt_values, background_values = _two(graph, values)  # (B, H, C)
    prompt_mean, _ = _two(graph, gathered)  # (B, H, C)
    shares = graph.op(
        "Sigmoid", graph.op("Add", _differences(graph, mean, prompt_mean, H, C), prompt_odds)
    )  # (B, K, H)
    mixed = graph.op("MatMul", shares, prompt_values)  # (B, K, C)
    background_row = graph.op("MatMul", graph.op("Sigmoid", background_odds), background_values)  # (B, 1, C)
    return graph.op("Concat", mixed, background_row, axis=1)


def _mean_query(graph: GraphBuilder, H: int, C: int) -> str:
    """The mean of all prompts' queries, (H, C), as a product, because ReduceMean along the first axis is slow."""
    number = graph.op("Shape", layout.QUERIES, end=1)  # (1,), which is K
    share = graph.op("Reciprocal", graph.op("Cast", number, to=onnx.TensorProto.FLOAT))
    shares = graph.op("Expand", share, graph.op("Concat", graph.integers(1), number, axis=0))  # (1, K)
    return graph.op("Reshape", graph.op("MatMul", shares, layout.QUERIES), graph.integers(H, C))


def _differences(graph: GraphBuilder, mean: str, gathered: str, H: int, C: int) -> str:
    """How much more each prompt attends to what the mean query has gathered than that does itself: (B, K, H).

    Args:
        graph: receives the operators.
        mean: (H, C), the mean query.
        gathered: (B, H, C), the mean of the kept snippets under its attention.
        H: heads.
        C: channels.
    """
    own = graph.op("ReduceSum", graph.op("Mul", mean, gathered), graph.integers(2), keepdims=0)  # (B, H)
    eye = graph.weight("heads", np.eye(H, dtype=np.float32)[:, None])  # (H, 1, H)
    columns = graph.op("Mul", graph.op("Unsqueeze", gathered, graph.integers(3)), eye)  # (B, H, C, H)
    columns = graph.op("Reshape", columns, graph.integers(0, H * C, H))  # each head's rows in a column of their own
    return graph.op("Sub", graph.op("MatMul", layout.QUERIES, columns), graph.op("Unsqueeze", own, graph.integers(1)))


def _two(graph: GraphBuilder, values: str) -> list[str]:
    """The two halves of (B, 2, ...), each (B, ...)."""
    halves = graph.ops("Split", values, outputs=2, axis=1, num_outputs=2)
    return [graph.op("Squeeze", half, graph.integers(1)) for half in halves]
