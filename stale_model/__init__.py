"""The STALE network in PyTorch, its checkpoints, and its training."""

from typing import TYPE_CHECKING

from stale_runtime._lazy import lazily

if TYPE_CHECKING:
    from stale_model.checkpoints.checkpoint import TrainedStale, read_checkpoint, read_original_checkpoint
    from stale_model.checkpoints.clip import TextTower
    from stale_model.checkpoints.default_clip import DEFAULT_CLIP
    from stale_model.network.config import StaleConfig
    from stale_model.network.stale import Localization, Stale, TrainingOutputs

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

__getattr__, __dir__ = lazily(
    __name__,
    {
        "DEFAULT_CLIP": "checkpoints.default_clip",
        "Localization": "network.stale",
        "Stale": "network.stale",
        "StaleConfig": "network.config",
        "TextTower": "checkpoints.clip",
        "TrainedStale": "checkpoints.checkpoint",
        "TrainingOutputs": "network.stale",
        "read_checkpoint": "checkpoints.checkpoint",
        "read_original_checkpoint": "checkpoints.checkpoint",
    },
)
