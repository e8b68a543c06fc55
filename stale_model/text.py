"""CLIP's text tower: prompts in, embeddings in the space of the snippet features out."""

from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection


class TextTower(nn.Module):
    """The text half of CLIP as `transformers` implements it."""

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
        return self.clip(input_ids=token_ids).text_embeds
