"""CLIP's text tower: prompts in, embeddings in the space of the snippet features out."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModelWithProjection
from transformers.utils.hub import cached_file

from stale_runtime.errors import CheckpointError

DEFAULT_CLIP = "openai/clip-vit-base-patch32"
END_TOKEN = "<|endoftext|>"


class TextTower(nn.Module):
    """The text half of CLIP, as ``transformers`` implements it."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.clip = CLIPTextModelWithProjection(config)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Embed tokenised prompts.

        Args:
            token_ids: (K, L) of int64, each from start to end token, padded with the end token.

        Returns:
            (K, C), not normalised.
        """
        embeddings: Tensor = self.clip(input_ids=token_ids).text_embeds
        return embeddings


@dataclass(frozen=True, kw_only=True)
class ClipParts:
    """What a CLIP folder gives beside weights."""

    name: str
    """The Hugging Face id, or the folder's name."""
    text_config: CLIPTextConfig
    tokenizer_json: bytes
    """The content of ``tokenizer.json``."""


def read_clip_parts(clip: str) -> ClipParts:
    """Read the text tower's configuration and the tokenizer.

    Args:
        clip: a Hugging Face id, or a folder with ``config.json`` and ``tokenizer.json``.

    Raises:
        CheckpointError: they are not there.
    """
    folder = Path(clip)
    try:
        text_config = CLIPConfig.from_pretrained(clip).text_config
        tokenizer_json = Path(cached_file(clip, "tokenizer.json") or "").read_bytes()
        if not isinstance(text_config, CLIPTextConfig):
            raise TypeError("it has no text tower")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        first = str(problem).strip().splitlines()[0][:160] if str(problem).strip() else type(problem).__name__
        raise CheckpointError(
            f"--clip {clip}: no CLIP configuration and tokenizer ({first}); give a Hugging Face id that can be "
            "reached from here, or a folder with config.json and tokenizer.json"
        ) from problem
    return ClipParts(
        name=folder.resolve().name if folder.is_dir() else clip, text_config=text_config, tokenizer_json=tokenizer_json
    )


def empty_tower(config: CLIPTextConfig) -> TextTower:
    """A tower whose parameters have shapes but no memory, to compare with what a checkpoint holds."""
    with torch.device("meta"):
        return TextTower(config)
