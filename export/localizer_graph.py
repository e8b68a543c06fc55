"""The deployed localizer: the network of ``stale_model`` rewritten for speed, the same function.

What differs from ``stale_model.network.stale``, each without changing a digit that matters:

- attention blocks are folded (``stale_export.folding``);
- a video of fewer snippets than the length is resampled inside, where attention takes the shorter way;
- the prompts' side of the cross-adaptation comes in as an input, computed once with the prompt;
- the foreground branch and the video's logits, which only training reads, are gone;
- snippets that the masks discard are not computed: for the cross-adaptation they are all the same zero snippet, for
  the class activations all the same floor, so one stands for all of them, counted as often as there are.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import torch
from torch import Tensor

from stale_export.folding import FoldedAttention
from stale_export.graph_builder import FLOAT, GraphBuilder
from stale_export.schemes import Scheme
from stale_model import Stale
from stale_model.network.stale import LOGIT_SCALE, SCORE_FLOOR
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec

LINEARS = ("embedding.query", "embedding.output", "masks.hidden", "adaptation.output")
"""The layers with weights, which is where integers pay: nearly all of the weights and, at T=100, of the time."""
LONG = 1024
"""Snippets beyond which attention is computed in tiles: slower up to here, faster and much smaller beyond."""
TILE = 512
"""Queries of a tile."""


def localizer_spec(network: Stale) -> GraphSpec:
    """The interface: batch, length and class count are free.

    ``length`` is T. Features are given either at T, or as they are where a video has fewer, S < T; the graph then
    resamples them to T, and takes advantage of it.
    """
    C, H = network.config.channels, network.config.heads
    return GraphSpec(
        inputs=(
            TensorSpec(name="features", dtype="float32", shape=("B", "S", C)),
            TensorSpec(name="length", dtype="int64", shape=()),
            TensorSpec(name="prompts", dtype="float32", shape=("K", C)),
            TensorSpec(name="queries", dtype="float32", shape=("K", H * C)),
        ),
        outputs=(
            TensorSpec(name="cas_logits", dtype="float32", shape=("B", "K+1", "T")),
            TensorSpec(name="action_masks", dtype="float32", shape=("B", "T", "T")),
        ),
    )


def cross_queries(network: Stale, embeddings: Tensor) -> Tensor:
    """The prompts' side of the cross-adaptation, as the deployed graph takes it: (K, C) -> (K, H*C)."""
    query = torch.from_numpy(FoldedAttention.of(network.cross_adaptation).query)
    return (embeddings.double() @ query.double()).float()


def localizer_model(network: Stale, schemes: Mapping[str, Scheme] = FLOAT, *, watch: bool = False) -> onnx.ModelProto:
    """The deployed graph of a trained network.

    Args:
        network: in evaluation mode.
        schemes: how each linear layer of ``LINEARS`` is quantized; those that are not named stay float.
        watch: add what goes into each linear layer as an output, to calibrate with; see ``watched_name``.
    """
    C = network.config.channels
    graph = GraphBuilder(schemes=schemes)
    snippets = _embed_snippets(graph, FoldedAttention.of(network.snippet_embedding), C)  # (B, T, C)
    masks = _propose_masks(graph, network, snippets)  # (B, T, T)
    keep = _foreground(graph, masks)  # (B, T) of bool
    _classify(graph, network, snippets, keep)
    spec = localizer_spec(network)
    if not watch:
        return graph.model(spec)
    for name, value in graph.linears.items():
        graph.name(watched_name(name), graph.op("Identity", value))
    watched = (TensorSpec(name=watched_name(name), dtype="float32", shape=("B", "N", "C")) for name in graph.linears)
    return graph.model(replace(spec, outputs=(*spec.outputs, *watched)))


def watched_name(linear: str) -> str:
    """The output that shows what goes into a linear layer."""
    return f"{linear}.input"


def _embed_snippets(graph: GraphBuilder, block: FoldedAttention, C: int) -> str:
    """Attention among the snippets: features (B, S, C), length T -> (B, T, C)."""
    H = block.heads
    length = graph.op("Unsqueeze", "length", graph.integers(0))  # (1,)
    stretched = graph.op("Squeeze", graph.op("Less", graph.op("Shape", "features", start=1, end=2), length))
    lower, share = _positions(graph, graph.op("Shape", "features", start=1, end=2), length)
    features = graph.op("If", stretched, then_branch=_stretch(lower, share), else_branch=_unchanged())  # (B, T, C)
    queries = graph.linear("embedding.query", "features", block.query)  # (B, S, H*C)
    gathered = graph.op(
        "If",
        stretched,
        then_branch=_attend_stretched(queries, lower, share, H, C),
        else_branch=_attend_plainly(queries, H, C),
    )  # (B, T, H*C)
    mixed = graph.linear("embedding.output", gathered, block.output)
    return _residual_norm(graph, "embedding", block, mixed, features)


def _stretch(lower: str, share: str) -> onnx.GraphProto:
    """The features resampled to the length: (B, S, C) -> (B, T, C)."""
    graph = GraphBuilder("stretch/")
    return graph.subgraph([_resampled(graph, "features", lower, share, axis=1)])


def _unchanged() -> onnx.GraphProto:
    graph = GraphBuilder("unchanged/")
    return graph.subgraph([graph.op("Identity", "features")])


def _attend_plainly(queries: str, heads: int, C: int) -> onnx.GraphProto:
    """Attention to the features as they are: queries (B, T, H*C) -> (B, T, H*C)."""
    graph = GraphBuilder("plain/")
    keys = graph.op("Transpose", "features", perm=[0, 2, 1])  # (B, C, T)
    return graph.subgraph([_attend(graph, queries, keys, "features", heads)])


def _attend_stretched(queries: str, lower: str, share: str, heads: int, C: int) -> onnx.GraphProto:
    """Attention to resampled features, computed from the S features that there really are.

    Resampling is linear, x = R·x0 with R of (T, S). So the scores are R·(queries·x0ᵀ)·Rᵀ, and what is gathered is
    (weights·R)·x0: products over S where the plain ones go over C.
    """
    graph = GraphBuilder("stretched/")
    rows = graph.op("Reshape", queries, graph.integers(0, -1, C))  # (B, S*H, C)
    scores = graph.op("MatMul", rows, graph.op("Transpose", "features", perm=[0, 2, 1]))  # (B, S*H, S)
    size = graph.op("Shape", "features", start=1, end=2)  # (1,)
    wide = graph.op("Concat", graph.integers(0), size, graph.integers(-1), axis=0)
    scores = _resampled(graph, graph.op("Reshape", scores, wide), lower, share, axis=1)  # (B, T, H*S)
    square = graph.op("ConstantOfShape", graph.op("Concat", size, size, axis=0))
    resampling = _resampled(graph, graph.op("EyeLike", square), lower, share, axis=0)  # (T, S)
    batch = graph.op("Unsqueeze", resampling, graph.integers(0))  # (1, T, S)
    keys = graph.op("Transpose", batch, perm=[0, 2, 1])  # (1, S, T)
    gathered = _attend(graph, scores, keys, batch, heads)  # (B, T, H*S)
    narrow = graph.op("Concat", graph.integers(0, -1), size, axis=0)
    gathered = graph.op("MatMul", graph.op("Reshape", gathered, narrow), "features")  # (B, T*H, C)
    return graph.subgraph([graph.op("Reshape", gathered, graph.integers(0, -1, heads * C))])


def _attend(graph: GraphBuilder, queries: str, keys: str, values: str, heads: int) -> str:
    """Softmax attention of several heads to the same D wide memory.

    Args:
        graph: to add to.
        queries: (B, T, H*D)
        keys: (B, D, T), or (1, D, T) for all of the batch.
        values: (B, T, D), or (1, T, D).
        heads: H

    Returns:
        (B, T, H*D)
    """
    is_long = graph.op("Greater", graph.op("Shape", queries, start=1, end=2), graph.integers(LONG))
    return graph.op(
        "If",
        graph.op("Squeeze", is_long),
        then_branch=_attend_in_tiles(graph.prefix, queries, keys, values, heads),
        else_branch=_attend_by_heads(graph.prefix, queries, keys, values, heads),
    )


def _attend_by_heads(prefix: str, queries: str, keys: str, values: str, heads: int) -> onnx.GraphProto:
    """One head after the other."""
    graph = GraphBuilder(f"{prefix}heads/")
    gathered = []
    for query in graph.ops("Split", queries, outputs=heads, axis=2, num_outputs=heads):  # (B, T, D)
        weights = graph.op("Softmax", graph.op("MatMul", query, keys), axis=-1)  # (B, T, T)
        gathered.append(graph.op("MatMul", weights, values))
    return graph.subgraph([graph.op("Concat", *gathered, axis=2)])


def _attend_in_tiles(prefix: str, queries: str, keys: str, values: str, heads: int) -> onnx.GraphProto:
    """A tile of queries after the other, of all heads, so that memory grows with T and not with T²."""
    graph = GraphBuilder(f"{prefix}tiles/")
    D = graph.op("Shape", values, start=2)  # (1,)
    flat = graph.op("Concat", graph.integers(0, -1), D, axis=0)
    rows = graph.op("Reshape", queries, flat)  # (B, T*H, D), a row for every head of every snippet
    count = graph.op("Shape", rows, start=1, end=2)
    missing = graph.op("Mod", graph.op("Neg", count), graph.integers(TILE))  # to a multiple of the tile
    pads = graph.op("Concat", graph.integers(0, 0, 0, 0), missing, graph.integers(0), axis=0)
    tiled = graph.op("Concat", graph.integers(0, -1, TILE), D, axis=0)
    tiles = graph.op("Reshape", graph.op("Pad", rows, pads), tiled)  # (B, tiles, TILE, D)

    body = GraphBuilder(f"{prefix}tile/")
    number = f"{prefix}tile/number"
    tile = body.op("Gather", tiles, number, axis=1)  # (B, TILE, D)
    scores = body.op("Reshape", body.op("MatMul", tile, keys), body.integers(0, TILE, -1))  # OpenVINO needs the rank
    gathered = body.op("MatMul", body.op("Softmax", scores, axis=-1), values)  # (B, TILE, D)
    count_tiles = graph.op("Squeeze", graph.op("Shape", tiles, start=1, end=2))
    tiles = graph.op("Loop", count_tiles, "", body=body.loop(number, [gathered]))  # (tiles, B, TILE, D)
    tiles = graph.op("Transpose", tiles, perm=[1, 0, 2, 3])
    rows = graph.op("Slice", graph.op("Reshape", tiles, flat), graph.integers(0), count, graph.integers(1))
    whole = graph.op("Concat", graph.op("Shape", queries, end=2), graph.integers(-1), axis=0)
    return graph.subgraph([graph.op("Reshape", rows, whole)])


def _positions(graph: GraphBuilder, count: str, length: str) -> tuple[str, str]:
    """Where each of T places lies among S, with half-pixel centres and clamped edges.

    At T = S the places are exactly those that are there.

    Args:
        graph: to add to.
        count: S, (1,) of int64.
        length: T, (1,) of int64.

    Returns:
        The place below, (T,) of int64, and the share of the place above it, (T,) in [0, 1).
    """
    steps = graph.op("Range", graph.scalar(0), graph.op("Squeeze", length), graph.scalar(1))
    steps = graph.op("Add", graph.op("Cast", steps, to=onnx.TensorProto.FLOAT), graph.number(0.5))
    sizes = (graph.op("Cast", size, to=onnx.TensorProto.FLOAT) for size in (count, length))
    position = graph.op("Sub", graph.op("Mul", steps, graph.op("Div", *sizes)), graph.number(0.5))
    last = graph.op("Cast", graph.op("Sub", count, graph.integers(1)), to=onnx.TensorProto.FLOAT)
    position = graph.op("Min", graph.op("Max", position, graph.number(0)), last)
    lower = graph.op("Floor", position)
    return graph.op("Cast", lower, to=onnx.TensorProto.INT64), graph.op("Sub", position, lower)


def _resampled(graph: GraphBuilder, values: str, lower: str, share: str, axis: int) -> str:
    """Values between two places along an axis, the last but one: (..., S, D) -> (..., T, D)."""
    last = graph.op("Sub", graph.op("Shape", values, start=axis, end=axis + 1), graph.integers(1))
    upper = graph.op("Min", graph.op("Add", lower, graph.integers(1)), last)
    share = graph.op("Unsqueeze", share, graph.integers(1))  # (T, 1)
    below = graph.op("Mul", graph.op("Gather", values, lower, axis=axis), graph.op("Sub", graph.number(1), share))
    return graph.op("Add", below, graph.op("Mul", graph.op("Gather", values, upper, axis=axis), share))


def _propose_masks(graph: GraphBuilder, network: Stale, snippets: str) -> str:
    """Two convolutions, the second with a kernel resampled to the length: snippets (B, T, C) -> masks (B, T, T)."""
    localizer = network.mask_localizer
    taps = localizer.hidden.weight.detach().numpy()  # (M, C, 3)
    weight = taps.transpose(2, 1, 0).reshape(-1, taps.shape[0])  # (3*C, M)
    padded = graph.op("Pad", snippets, graph.integers(0, 1, 0, 0, 1, 0))  # (B, T+2, C)
    most = graph.integers(np.iinfo(np.int64).max)
    axis = graph.integers(1)
    before = graph.op("Slice", padded, graph.integers(0), graph.integers(-2), axis)
    after = graph.op("Slice", padded, graph.integers(2), most, axis)
    neighbours = graph.op("Concat", before, snippets, after, axis=2)  # (B, T, 3*C)
    hidden = graph.linear("masks.hidden", neighbours, weight)
    bias = localizer.hidden.bias
    assert bias is not None
    hidden = graph.op("Relu", graph.op("Add", hidden, graph.weight("masks.hidden_bias", bias.detach().numpy())))
    hidden = graph.op("Transpose", hidden, perm=[0, 2, 1])  # (B, M, T)
    trained = localizer.kernel.detach().numpy()  # (T0, M), resampled to (T, M); at T = T0 it is what it was, to the bit
    lower, share = _positions(graph, graph.integers(len(trained)), graph.op("Shape", snippets, start=1, end=2))
    kernel = _resampled(graph, graph.weight("masks.kernel", trained), lower, share, axis=0)
    logits = graph.op("MatMul", kernel, hidden)  # (B, T, T)
    masks = graph.op("Sigmoid", logits)
    graph.name("action_masks", masks)
    return "action_masks"


def _foreground(graph: GraphBuilder, masks: str) -> str:
    """Which snippets the masks keep: (B, T, T) -> (B, T) of bool."""
    strength = graph.op("ReduceMean", masks, graph.integers(2), keepdims=0)
    return graph.op("GreaterOrEqual", strength, graph.op("ReduceMean", strength, graph.integers(1), keepdims=1))


def _classify(graph: GraphBuilder, network: Stale, snippets: str, keep: str) -> None:
    """Adapt the prompts to the kept snippets and compare: (B, T, C), (B, T) -> cas_logits (B, K+1, T)."""
    C, H = network.config.channels, network.config.heads
    block = FoldedAttention.of(network.cross_adaptation)
    background = network.background_embedding.detach().numpy()  # (1, C)
    prompts = graph.op("Concat", "prompts", graph.weight("background", background), axis=0)  # (K+1, C)
    rows = graph.op("Reshape", "queries", graph.integers(-1, C))  # (K*H, C)
    background_rows = (background.astype(np.float64) @ block.query).reshape(H, C).astype(np.float32)

    kept, number = _compact(graph, snippets, keep)  # (B, N+1, C), (1,)
    discarded = graph.op("Sub", graph.op("Shape", snippets, start=1, end=2), number)
    counted = graph.op("Log", graph.op("Cast", discarded, to=onnx.TensorProto.FLOAT))
    counted = graph.op("Pad", counted, graph.op("Concat", number, graph.integers(0), axis=0))  # (N+1,), 0 but the last

    keys = graph.op("Transpose", kept, perm=[0, 2, 1])  # (B, C, N+1)
    scores = graph.op("MatMul", rows, keys)
    background_scores = graph.op("MatMul", graph.weight("background_query", background_rows), keys)
    scores = graph.op("Concat", scores, background_scores, axis=1)  # (B, (K+1)*H, N+1)
    weights = graph.op("Softmax", graph.op("Add", scores, counted), axis=-1)
    side_by_side = block.output.reshape(H, C, C).transpose(1, 0, 2).reshape(C, H * C)
    values = graph.linear("adaptation.output", kept, side_by_side)  # (B, N+1, H*C)
    values = graph.op("Transpose", graph.op("Reshape", values, graph.integers(0, 0, H, C)), perm=[0, 2, 1, 3])
    values = graph.op("Reshape", values, graph.integers(0, -1, C))  # (B, H*(N+1), C)
    row = graph.op("Concat", graph.integers(0, -1), graph.op("Shape", values, start=1, end=2), axis=0)
    mixed = graph.op("MatMul", graph.op("Reshape", weights, row), values)  # (B, K+1, H*(N+1)) @ (B, H*(N+1), C)
    adapted = _residual_norm(graph, "adaptation", block, mixed, prompts)  # (B, K+1, C)

    adapted = graph.op("Mul", _unit(graph, adapted), graph.number(LOGIT_SCALE))
    floored = _unit(graph, graph.op("Max", kept, graph.number(SCORE_FLOOR)))
    logits = graph.op("MatMul", floored, graph.op("Transpose", adapted, perm=[0, 2, 1]))  # (B, N+1, K+1)
    logits = graph.op("GatherND", logits, _places(graph, keep, number), batch_dims=1)  # (B, T, K+1)
    graph.name("cas_logits", graph.op("Transpose", logits, perm=[0, 2, 1]))


def _compact(graph: GraphBuilder, snippets: str, keep: str) -> tuple[str, str]:
    """The kept snippets of each video, then one of zeros: (B, T, C), (B, T) -> (B, N+1, C) and N, the most kept.

    A video with fewer than N is filled up with discarded ones, as zeros.
    """
    counts = graph.op("ReduceSum", graph.op("Cast", keep, to=onnx.TensorProto.INT64), graph.integers(1), keepdims=0)
    number = graph.op("Max", graph.op("ReduceMax", counts, keepdims=1), graph.integers(1))  # (1,)
    length = graph.op("Squeeze", graph.op("Shape", keep, start=1))
    position = graph.op("Range", graph.scalar(0), length, graph.scalar(1))  # (T,)
    order = graph.op("Sub", graph.op("Where", keep, length, graph.scalar(0)), position)  # all differ; above 0 are kept
    order, index = graph.ops("TopK", graph.op("Cast", order, to=onnx.TensorProto.FLOAT), number, outputs=2, axis=1)
    flags = graph.op("Cast", graph.op("Greater", order, graph.number(0)), to=onnx.TensorProto.FLOAT)  # (B, N)
    kept = graph.op("GatherND", snippets, graph.op("Unsqueeze", index, graph.integers(2)), batch_dims=1)
    kept = graph.op("Mul", kept, graph.op("Unsqueeze", flags, graph.integers(2)))  # (B, N, C)
    return graph.op("Pad", kept, graph.integers(0, 0, 0, 0, 1, 0)), number


def _places(graph: GraphBuilder, keep: str, number: str) -> str:
    """Where each snippet is among the compacted ones, the last for those discarded: (B, T) -> (B, T, 1)."""
    order = graph.op("CumSum", graph.op("Cast", keep, to=onnx.TensorProto.INT64), graph.scalar(1))
    place = graph.op("Where", keep, graph.op("Sub", order, graph.integers(1)), number)
    return graph.op("Unsqueeze", place, graph.integers(2))


def _residual_norm(graph: GraphBuilder, name: str, block: FoldedAttention, mixed: str, residual: str) -> str:
    """What ends an attention block: (B, N, C), (B or 1, N, C) -> (B, N, C)."""
    biased = graph.op("Add", mixed, graph.weight(f"{name}.bias", block.bias))
    return graph.op(
        "LayerNormalization",
        graph.op("Add", biased, residual),
        graph.weight(f"{name}.norm_weight", block.norm_weight),
        graph.weight(f"{name}.norm_bias", block.norm_bias),
        axis=-1,
        epsilon=block.norm_epsilon,
    )


def _unit(graph: GraphBuilder, rows: str) -> str:
    """Rows scaled to length one: (B, N, C) -> (B, N, C)."""
    return graph.op("Div", rows, graph.op("ReduceL2", rows, graph.integers(2), keepdims=1))
