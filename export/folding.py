"""Folding a trained attention block: two matrices for each head instead of four.

Ordinary attention of one head computes q = x·Wq, k = y·Wk, v = y·Wv from queries x and a memory y, and then
softmax(q·kᵀ/√C)·v·Wo. The heads of this network are as wide as the model, and q, k and v have no bias. So two products
of weights can be computed at export:

- A = Wq·Wkᵀ/√C, (C, C): the scores are (x·A)·yᵀ, and the memory itself takes the place of the keys;
- V = Wv·Wo, (C, C): the result is (softmax(...)·y)·V, and the memory itself takes the place of the values.

The function stays the same, with half of the weights.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stale_model.network.attention import WideAttention

Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FoldedAttention:
    """The weights of a folded attention block."""

    heads: int
    """H"""
    query: Matrix
    """(C, H·C): the matrices A of all heads, side by side. ``x @ query`` gives the folded queries of all heads."""
    output: Matrix
    """(H·C, C): the matrices V of all heads, one below the other, for the heads' results side by side."""
    bias: Matrix
    """(C,) of the output projection."""
    norm_weight: Matrix
    """(C,) of the LayerNorm after the residual."""
    norm_bias: Matrix
    """(C,) of the same LayerNorm."""
    norm_epsilon: float
    """Of the same LayerNorm."""

    @classmethod
    def of(cls, block: WideAttention) -> "FoldedAttention":
        """Fold a trained block, computing in float64."""
        H, C = block.heads, block.output.out_features
        query, key, value = (
            linear.weight.detach().double().numpy().reshape(H, C, C) for linear in (block.query, block.key, block.value)
        )  # (H, D, C) each; D = C is the width of a head
        output = block.output.weight.detach().double().numpy().reshape(C, H, C)  # (C, H, D)
        absorbed_query = (query.transpose(0, 2, 1) @ key).transpose(1, 0, 2) / np.sqrt(C)  # (C, H, C)
        absorbed_output = (output.transpose(1, 0, 2) @ value).transpose(0, 2, 1)  # (H, C, C)
        return cls(
            heads=H,
            query=absorbed_query.reshape(C, H * C).astype(np.float32),
            output=absorbed_output.reshape(H * C, C).astype(np.float32),
            bias=block.output.bias.detach().numpy().copy(),
            norm_weight=block.norm.weight.detach().numpy().copy(),
            norm_bias=block.norm.bias.detach().numpy().copy(),
            norm_epsilon=block.norm.eps,
        )
