"""The STALE network in PyTorch, and the checkpoints it is read from."""

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
