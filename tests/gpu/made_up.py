"""Made-up networks, features and targets of the published sizes, which need PyTorch alone."""

import torch
from torch import Tensor

from stale_model.data.targets import Targets
from stale_model.network.config import StaleConfig
from stale_model.network.stale import Stale

EMBEDDING_LENGTH = 10.0
"""About that of CLIP's embeddings, of images and of texts."""


def make_network(length: int, seed: int = 0) -> Stale:
    """A network of the published sizes with seeded weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Stale(StaleConfig(temporal_scale=length)).eval()


def make_prompts(network: Stale, K: int, seed: int = 0) -> Tensor:
    """Embeddings of K made-up prompts and the background: (K+1, C)."""
    generator = torch.Generator().manual_seed(seed)
    C = network.config.channels
    rows = torch.randn(K, C, generator=generator) + torch.randn(1, C, generator=generator)
    return network.with_background(_scale(rows)).detach()


def make_features(B: int, T: int, C: int, seed: int = 0) -> Tensor:
    """Features of made-up videos, each of slowly changing noise around one direction: (B, T, C)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(B, T, C, generator=generator)
    drift = torch.randn(B, T, C, generator=generator).cumsum(dim=1) / T**0.5
    return _scale(noise + drift + torch.randn(B, 1, C, generator=generator))


def make_targets(B: int, T: int, K: int, seed: int = 0) -> Targets:
    """Targets of videos with one action each."""
    generator = torch.Generator().manual_seed(seed)
    snippet_classes = torch.full((B, T), K, dtype=torch.int64)
    video_classes, foreground, action_masks = torch.zeros(B, K), torch.zeros(B, T), torch.zeros(B, T, T)
    for video in range(B):
        label, start, length = (int(torch.randint(n, (), generator=generator)) for n in (K, T // 2, T // 2))
        action = slice(start, start + length + 1)
        snippet_classes[video, action] = label
        video_classes[video, label] = 1
        foreground[video, action] = 1
        action_masks[video, action, action] = 1
    return Targets(snippet_classes, video_classes, action_masks, foreground)


def _scale(rows: Tensor) -> Tensor:
    scaled: Tensor = EMBEDDING_LENGTH * rows / rows.norm(dim=-1, keepdim=True)
    return scaled
