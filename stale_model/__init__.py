"""The STALE network in PyTorch, its checkpoints, and its training."""

from typing import TYPE_CHECKING

from stale_runtime.lazy import lazily

if TYPE_CHECKING:
    from stale_model.checkpoint import TrainedStale, read_checkpoint, read_original_checkpoint
    from stale_model.clip import DEFAULT_CLIP, TextTower
    from stale_model.config import StaleConfig
    from stale_model.network import Localization, Stale, TrainingOutputs

__all__ = [
    "DEFAULT_CLIP",
    "Localization",
    "Stale",
    "StaleConfig",
    "TextTower",
    "TrainedStale",
    "TrainingOutputs",
    "read_checkpoint",
    "read_original_checkpoint",
]

__getattr__ = lazily(
    __name__,
    {
        "DEFAULT_CLIP": "clip",
        "Localization": "network",
        "Stale": "network",
        "StaleConfig": "config",
        "TextTower": "clip",
        "TrainedStale": "checkpoint",
        "TrainingOutputs": "network",
        "read_checkpoint": "checkpoint",
        "read_original_checkpoint": "checkpoint",
    },
)
