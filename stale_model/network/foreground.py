"""The foreground branch: a small MaskFormer predictor that only the training loss uses."""

import math

import torch
from torch import Tensor, nn

from stale_model.network.config import StaleConfig


class ForegroundBranch(nn.Module):
    """Finds the snippets in which any action happens, with a single query for the video.

    Source: the transformer predictor of MaskFormer (Cheng et al., NeurIPS 2021), pre-norm, as STALE configures it.
    """

    def __init__(self, config: StaleConfig) -> None:
        super().__init__()
        C = config.channels
        self.input = nn.Linear(C, C)
        self.query = nn.Parameter(torch.empty(1, C))
        self.encoder = nn.ModuleList(_EncoderLayer(config) for _ in range(config.foreground_layers))
        self.encoder_norm = nn.LayerNorm(C)
        self.decoder = nn.ModuleList(_DecoderLayer(config) for _ in range(config.foreground_layers))
        self.decoder_norm = nn.LayerNorm(C)
        self.mask_embedding = nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, C), nn.ReLU(), nn.Linear(C, C))
        nn.init.normal_(self.query)
        nn.init.kaiming_uniform_(self.input.weight, a=1)
        nn.init.zeros_(self.input.bias)
        for layer in (*self.encoder, *self.decoder):
            for parameter in layer.parameters():
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)

    def forward(self, features: Tensor, snippets: Tensor) -> Tensor:
        """Score every snippet as foreground.

        Args:
            features: (B, T, C) raw snippet features.
            snippets: (B, T, C) embedded snippets, which the query's mask embedding is dotted with.

        Returns:
            (B, T), positive where an action happens.
        """
        B, T, C = features.shape
        positions = sine_positions(T, C, like=features)  # (T, C)
        memory = self.input(features)
        for layer in self.encoder:
            memory = layer(memory, positions)
        memory = self.encoder_norm(memory)
        query = torch.zeros_like(self.query).expand(B, 1, C)
        for layer in self.decoder:
            query = layer(query, self.query, memory, positions)
        mask = self.mask_embedding(self.decoder_norm(query))  # (B, 1, C)
        return (snippets @ mask.transpose(1, 2)).squeeze(2)  # (B, T, 1) -> (B, T)


def sine_positions(T: int, C: int, *, like: Tensor) -> Tensor:
    """Normalised sine positions of a T x 1 image, as DETR defines them for two dimensions.

    Args:
        T: snippets.
        C: channels; half of them describe each dimension, and the second one never varies.
        like: tensor that gives device and dtype.

    Returns:
        (T, C)
    """
    tau, epsilon = 2 * math.pi, 1e-6
    channel = torch.arange(C // 2, device=like.device, dtype=torch.float32)
    period = 10000 ** (2 * torch.div(channel, 2, rounding_mode="floor") / (C // 2))
    t = torch.arange(1, T + 1, device=like.device, dtype=torch.float32)
    along = _interleave(t[:, None] / (T + epsilon) * tau / period)
    across = _interleave(torch.full_like(t, tau / (1 + epsilon))[:, None] / period)
    return torch.cat([across, along], dim=1).to(like.dtype)


def _interleave(angles: Tensor) -> Tensor:
    return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)  # (T, C/4, 2) -> (T, C/2)


class _FeedForward(nn.Module):
    def __init__(self, config: StaleConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.channels, config.foreground_feedforward)
        self.outer = nn.Linear(config.foreground_feedforward, config.channels)
        self.dropout = nn.Dropout(config.foreground_dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.outer(self.dropout(self.inner(x).relu())))


def _attention(config: StaleConfig) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(
        config.channels, config.foreground_heads, dropout=config.foreground_dropout, batch_first=True
    )


class _EncoderLayer(nn.Module):
    def __init__(self, config: StaleConfig) -> None:
        super().__init__()
        self.attention = _attention(config)
        self.attention_norm = nn.LayerNorm(config.channels)
        self.feedforward = _FeedForward(config)
        self.feedforward_norm = nn.LayerNorm(config.channels)
        self.dropout = nn.Dropout(config.foreground_dropout)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        located = normed + positions
        x = x + self.dropout(self.attention(located, located, normed, need_weights=False)[0])
        return x + self.feedforward(self.feedforward_norm(x))


class _DecoderLayer(nn.Module):
    def __init__(self, config: StaleConfig) -> None:
        super().__init__()
        self.self_attention = _attention(config)
        self.self_attention_norm = nn.LayerNorm(config.channels)
        self.cross_attention = _attention(config)
        self.cross_attention_norm = nn.LayerNorm(config.channels)
        self.feedforward = _FeedForward(config)
        self.feedforward_norm = nn.LayerNorm(config.channels)
        self.dropout = nn.Dropout(config.foreground_dropout)

    def forward(self, x: Tensor, query: Tensor, memory: Tensor, positions: Tensor) -> Tensor:
        normed = self.self_attention_norm(x)
        located = normed + query
        x = x + self.dropout(self.self_attention(located, located, normed, need_weights=False)[0])
        located = self.cross_attention_norm(x) + query
        gathered = self.cross_attention(located, memory + positions, memory, need_weights=False)[0]
        x = x + self.dropout(gathered)
        return x + self.feedforward(self.feedforward_norm(x))
