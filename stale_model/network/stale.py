"""The STALE network: computes class activations and action masks from snippet features and prompt embeddings."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stale_model.network.attention import WideAttention
from stale_model.network.config import StaleConfig
from stale_model.network.foreground import ForegroundBranch

LOGIT_SCALE = 100.0
SCORE_FLOOR = 1e-4


class Localization(NamedTuple):
    """The outputs that detection needs."""

    cas_logits: Tensor
    """(B, K+1, T) class activation sequence, 100 times a cosine; the last row is background."""
    action_masks: Tensor
    """(B, T, T) in (0, 1); row t is the mask that snippet t proposes."""


class TrainingOutputs(NamedTuple):
    """The outputs that the training loss needs."""

    cas_logits: Tensor
    """(B, K+1, T)"""
    action_masks: Tensor
    """(B, T, T)"""
    foreground_logits: Tensor
    """(B, T), whose sigmoid is the foreground mask"""
    video_logits: Tensor
    """(B, K)"""
    snippets: Tensor
    """(B, T, C) embedded snippets"""

    @property
    def foreground_mask(self) -> Tensor:
        """(B, T) in (0, 1)."""
        return self.foreground_logits.sigmoid()


class MaskLocalizer(nn.Module):
    """Lets each snippet propose a mask over the whole video.

    The last kernel has an output channel for each snippet of the trained length; at another length the channels are
    resampled, since channel t means "the snippet at t/T" whatever T is.
    """

    def __init__(self, config: StaleConfig) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(config.channels, config.mask_channels, kernel_size=3, padding=1)
        self.kernel = nn.Parameter(torch.empty(config.temporal_scale, config.mask_channels))
        nn.init.kaiming_uniform_(self.kernel, a=5**0.5)

    def forward(self, snippets: Tensor) -> Tensor:
        """Args: snippets (B, T, C). Returns: (B, T, T) in (0, 1)."""
        T = snippets.shape[1]
        hidden = self.hidden(snippets.transpose(1, 2)).relu()  # (B, M, T)
        return (resample_rows(self.kernel, T) @ hidden).sigmoid()  # (T, M) @ (B, M, T) -> (B, T, T)


def resample_rows(rows: Tensor, T: int) -> Tensor:
    """Resample rows linearly to T of them, with half-pixel centres and clamped edges.

    Args:
        rows: (T0, M)
        T: number of rows wanted.

    Returns:
        (T, M); at T = T0 it equals ``rows`` exactly.
    """
    T0 = rows.shape[0]
    position = (torch.arange(T, device=rows.device, dtype=torch.float32) + 0.5) * (T0 / T) - 0.5
    position = position.clamp(0, T0 - 1)
    lower = position.floor()
    weight = (position - lower)[:, None].to(rows.dtype)
    index = lower.long()
    return rows[index] * (1 - weight) + rows[(index + 1).clamp(max=T0 - 1)] * weight


class Stale(nn.Module):
    """STALE without its text tower: from snippet features and prompt embeddings to activations and masks.

    Source: Nag et al., "Zero-Shot Temporal Action Detection via Vision-Language Prompting", ECCV 2022.
    """

    def __init__(self, config: StaleConfig) -> None:
        super().__init__()
        self.config = config
        C, H = config.channels, config.heads
        self.background_embedding = nn.Parameter(torch.randn(1, C))
        self.snippet_embedding = WideAttention(
            channels=C, heads=H, dropout=config.embedding_dropout, attention_dropout=config.attention_dropout
        )
        self.mask_localizer = MaskLocalizer(config)
        self.cross_adaptation = WideAttention(
            channels=C, heads=H, dropout=config.adaptation_dropout, attention_dropout=config.attention_dropout
        )
        self.foreground = ForegroundBranch(config)

    def with_background(self, prompt_embeddings: Tensor) -> Tensor:
        """Append the learned background embedding: (K, C) -> (K+1, C)."""
        return torch.cat([prompt_embeddings, self.background_embedding])

    def localize(self, features: Tensor, prompts: Tensor) -> Localization:
        """Compute the outputs that detection needs.

        Args:
            features: (B, T, C) snippet features.
            prompts: (K+1, C) prompt embeddings, background last; see ``with_background``.
        """
        snippets = self.snippet_embedding(features, features)
        return self._adapt(snippets, prompts)[0]

    def forward(self, features: Tensor, prompts: Tensor) -> TrainingOutputs:
        """Compute all outputs, including those that only the training loss needs.

        Args:
            features: (B, T, C) snippet features.
            prompts: (K+1, C) prompt embeddings, background last; see ``with_background``.
        """
        snippets = self.snippet_embedding(features, features)
        localization, foreground, adapted = self._adapt(snippets, prompts)
        return TrainingOutputs(
            cas_logits=localization.cas_logits,
            action_masks=localization.action_masks,
            foreground_logits=self.foreground(features, snippets),
            video_logits=cosine_logits(adapted[:, :-1], foreground.mean(dim=1, keepdim=True)).squeeze(2),
            snippets=snippets,
        )

    def _adapt(self, snippets: Tensor, prompts: Tensor) -> tuple[Localization, Tensor, Tensor]:
        masks = self.mask_localizer(snippets)
        kept = snippets * foreground_snippets(masks)
        adapted = self.cross_adaptation(prompts[None], kept)  # (B, K+1, C)
        foreground = kept.clamp(min=SCORE_FLOOR)
        return Localization(cosine_logits(adapted, foreground), masks), foreground, adapted


def foreground_snippets(masks: Tensor) -> Tensor:
    """The snippets that representation masking keeps: those whose mask has at least the mean strength of all masks.

    Args:
        masks: (B, T, T)

    Returns:
        (B, T, 1) of bool.
    """
    strength = masks.mean(dim=2, keepdim=True)
    return strength >= strength.mean(dim=1, keepdim=True)


def cosine_logits(prompts: Tensor, snippets: Tensor) -> Tensor:
    """Args: prompts (B, K, C), snippets (B, T, C). Returns: (B, K, T), 100 times their cosine."""
    prompts = prompts / prompts.norm(dim=2, keepdim=True)
    snippets = snippets / snippets.norm(dim=2, keepdim=True)
    return LOGIT_SCALE * prompts @ snippets.transpose(1, 2)
