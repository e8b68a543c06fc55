"""The demo's CLIP: a small convolutional image tower, and a small text tower as ``transformers`` has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from stale_model.demo.captions import all_words
from stale_model.demo.demo_tokenizer import CONTEXT, END, START, make_tokenizer

CHANNELS: Final = 128
"""C, the width of the embeddings."""
SIDE: Final = 64
"""Pixels on a side of the square image that the image tower gets."""
MEAN: Final = (0.48, 0.5, 0.48)
DEVIATION: Final = (0.27, 0.26, 0.27)
"""Of pixels on a scale from 0 to 1."""
_MAPS = 24
_HIDDEN, _LAYERS, _HEADS = 64, 2, 2


class ImageTower(nn.Module):
    """Convolutions down to 4 by 4 places, and the mean and the maximum over them.

    Nothing tells where in the image something is: a fence that is carried is higher up than one that stands, and has to
    look like a fence all the same. A vision transformer of this size needs far more images; CLIP was published with
    either kind.
    """

    def __init__(self, channels: int = CHANNELS, maps: int = _MAPS) -> None:
        """Draw the weights.

        Args:
            channels: C
            maps: after the first convolution; the last one has eight times as many.
        """
        super().__init__()
        self.body = nn.Sequential(
            _convolution(3, maps, 2),
            _convolution(maps, 2 * maps, 2),
            _convolution(2 * maps, 2 * maps, 1),
            _convolution(2 * maps, 4 * maps, 2),
            _convolution(4 * maps, 4 * maps, 1),
            _convolution(4 * maps, 8 * maps, 2),
        )
        self.projection = nn.Linear(16 * maps, channels, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: (B, 3, SIDE, SIDE), normalised.

        Returns:
            (B, C)
        """
        maps = self.body(images)  # (B, 8 * maps, SIDE / 16, SIDE / 16)
        pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)  # (B, 16 * maps)
        embeddings: Tensor = self.projection(pooled)
        return embeddings


@dataclass(frozen=True, kw_only=True)
class DemoTowers:
    """Both towers, and the tokenizer of the text tower."""

    image: ImageTower
    text: CLIPTextModelWithProjection
    tokenizer: Tokenizer

    @classmethod
    def draw(cls, names: Sequence[str], seed: int, *, channels: int = CHANNELS) -> "DemoTowers":
        """Towers with initial weights.

        Args:
            names: class names, whose words the tokenizer knows, as well as those of the captions.
            seed: decides the weights.
            channels: C
        """
        tokenizer = make_tokenizer(all_words(names))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            text = CLIPTextModelWithProjection(make_text_config(tokenizer, channels=channels))
            return cls(image=ImageTower(channels), text=text.train(mode=False), tokenizer=tokenizer)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of K texts: (K, C)."""
        embeddings: Tensor = self.text(input_ids=tokenize_texts(self.tokenizer, texts)).text_embeds
        return embeddings


def make_text_config(tokenizer: Tokenizer, *, channels: int) -> CLIPTextConfig:
    """The configuration of a small text tower for a tokenizer of ``make_tokenizer``."""
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    return CLIPTextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=_HIDDEN,
        intermediate_size=2 * _HIDDEN,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        max_position_embeddings=CONTEXT,
        projection_dim=channels,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )


def tokenize_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids of K texts, padded with the end token: (K, L)."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    longest, end = max(map(len, rows)), tokenizer.token_to_id(END)
    return torch.tensor([row + [end] * (longest - len(row)) for row in rows])


def normalise_pixels(images: NDArray[np.uint8]) -> Tensor:
    """What the image tower gets: (B, SIDE, SIDE, 3) of bytes -> (B, 3, SIDE, SIDE), with channels last in memory."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return (pixels.float() / 255 - mean) / deviation


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
