"""Taking a trained attention block apart, into the two matrices a head that deployment needs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stale_model.network.attention import WideAttention

Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FoldedAttention:
    """An attention block whose key and output projections are absorbed.

    Its heads are as wide as the model and q, k and v have no bias. So the scores of a head, q·kᵀ/√C, are x·A·yᵀ with
    one (C, C) matrix A, and value and output projection are one matrix V: the same function with half of the weights,
    which attends to the memory itself.
    """

    heads: int
    """H"""
    query: Matrix
    """(C, H·C): x @ query gives the queries of all heads, to be dotted with the memory as it is."""
    output: Matrix
    """(H·C, C): what the heads gathered from the memory, side by side, @ output."""
    bias: Matrix
    """(C,)"""
    norm_weight: Matrix
    """(C,)"""
    norm_bias: Matrix
    """(C,)"""
    norm_epsilon: float

    @classmethod
    def of(cls, block: WideAttention) -> "FoldedAttention":
        """Fold a trained block, in float64."""
        H, C = block.heads, block.output.out_features
        query, key, value = (
            linear.weight.detach().double().numpy().reshape(H, C, C) for linear in (block.query, block.key, block.value)
        )  # (H, D, C) each, D the width of a head, equal to C
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
