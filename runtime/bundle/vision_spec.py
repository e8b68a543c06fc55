"""How images become embeddings: what a manifest says about a bundle's vision tower."""

import reprlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

from stale_runtime.inputs.recipe import UNKNOWN, FeatureRecipe

Precision: TypeAlias = Literal["fp32", "int8"]
"""Of the products with weights in a vision tower's graph."""
LARGEST_BATCH = 64
"""Most images that a vision tower embeds at once."""


@dataclass(frozen=True, kw_only=True)
class VisionSpec:
    """A vision tower's graph, and how it is used."""

    recipe: FeatureRecipe
    """How features are made with this tower; its image size, mean, deviation and order of channels are known."""
    input: str
    """Name of the graph's input: images (B, S, S, 3) of bytes, or (B, 3, S, S) of normalised float32."""
    takes_bytes: bool
    """Whether the graph normalises pixels itself."""
    output: str
    """Name of the graph's output, (B, C) of float32."""
    batch: int
    """Images to embed at once. A tower that would not give an image the same embedding in any batch has 1."""
    cosine: float | None = None
    """Lowest cosine of the float graph's embeddings with PyTorch's, of drawn images; None if there was no PyTorch
    tower to compare with."""
    int8_cosine: float | None = None
    """Lowest cosine of the int8 graph's embeddings with the float graph's; None without an int8 graph."""

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= LARGEST_BATCH:
            raise ValueError(f"batch is {reprlib.repr(self.batch)}, expected 1 to {LARGEST_BATCH} images")
        for name in ("image_size", "mean", "deviation", "channel_order"):
            if getattr(self.recipe, name) is None:
                raise ValueError(f"recipe.{name} is {UNKNOWN}, but a vision tower needs it")

    @property
    def image_size(self) -> int:
        """S, the pixels on a side of an image."""
        assert self.recipe.image_size is not None  # __post_init__ makes sure
        return self.recipe.image_size
