"""The attention block that STALE uses twice: between snippets, and from prompts to snippets."""

import math

from torch import Tensor, nn


class WideAttention(nn.Module):
    """Residual multi-head attention in which each head is as wide as the model.

    q, k and v have no bias; the concatenated heads go through one linear layer, dropout, the residual and a LayerNorm.

    Source: the snippet embedding and the cross-adaptation of STALE (Nag et al., ECCV 2022).
    """

    def __init__(self, *, channels: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, heads * channels, bias=False)
        self.key = nn.Linear(channels, heads * channels, bias=False)
        self.value = nn.Linear(channels, heads * channels, bias=False)
        self.output = nn.Linear(heads * channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(channels)
        self.attention_dropout = nn.Dropout(attention_dropout)
        for linear in (self.query, self.key, self.value):
            nn.init.normal_(linear.weight, std=channels**-0.5)
        nn.init.xavier_normal_(self.output.weight)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Attend from each query to the memory.

        Args:
            queries: (B, N, C), or (1, N, C) for the same queries in the whole batch; also added as the residual.
            memory: (B, T, C), both the keys and the values.

        Returns:
            (B, N, C)
        """
        C = queries.shape[-1]
        q = self._split(self.query(queries))  # (B or 1, H, N, C)
        k = self._split(self.key(memory))  # (B, H, T, C)
        v = self._split(self.value(memory))  # (B, H, T, C)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(C)).softmax(dim=-1)  # (B, H, N, T)
        gathered = (self.attention_dropout(weights) @ v).transpose(1, 2).flatten(2)  # (B, N, H*C)
        return self.norm(self.dropout(self.output(gathered)) + queries)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, N, H*C) -> (B, H, N, C)
