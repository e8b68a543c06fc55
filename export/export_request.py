"""What ``stale-export`` is asked to do. Importing this module does not load PyTorch."""

import os
from dataclasses import dataclass
from pathlib import Path

from stale_export.int8_options import Int8Options
from stale_runtime.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One export: a checkpoint, the bundle to write, and how."""

    checkpoint: Path
    """A checkpoint of the original code, or of ``stale-train``."""
    clip: str
    """Hugging Face id of the CLIP of an original checkpoint, or a folder with its files."""
    output: Path
    """The bundle's folder."""
    classes: Path | None
    """File of the class names whose embeddings the bundle carries; None for the trained ones, or ActivityNet's."""
    vision: str | None
    """Hugging Face id or folder of the vision tower that the bundle carries, see ``export_vision``; None for none."""
    recipe: Path | None
    """File that says how the features of the training were made; None for what the checkpoint says alone."""
    graphs: tuple[str, ...]
    """Keys of ``GRAPH_FILES``: the graphs that the bundle gets."""
    signing_key: Path | None
    """Private key to sign the bundle with; None for an unsigned bundle."""
    int8: Int8Options
    """How the int8 graphs are made and checked."""

    def __post_init__(self) -> None:
        if not os.path.isfile(self.checkpoint):
            raise CheckpointError(f"--ckpt {self.checkpoint}: no such file; give the checkpoint that training wrote")
        if os.path.isfile(self.clip):
            raise CheckpointError(
                f"--clip {self.clip}: a file; give a Hugging Face id, or a folder with config.json and tokenizer.json"
            )
        if self.vision is not None and os.path.isfile(self.vision):
            raise CheckpointError(
                f"--vision {self.vision}: a file; give a Hugging Face id, a folder with config.json and weights in "
                "safetensors, or one with an .onnx file and recipe.json"
            )
