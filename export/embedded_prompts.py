"""The bundle's own class names, embedded by the trained text tower."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stale_export.localizer_graph import cross_queries
from stale_model import TrainedStale
from stale_runtime.bundle.arrays import pack_arrays
from stale_runtime.bundle.manifest import TextEncoderSpec
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.text_encoder import Tokenizer
from stale_runtime.inputs.prompts import Prompts

_BATCH = 64
"""Prompts that the tower embeds at once."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedPrompts:
    """K class names and everything that is computed from them, by the plain PyTorch tower."""

    names: tuple[str, ...]
    """The class names."""
    texts: tuple[str, ...]
    """The class names in the prompt template."""
    suffixes: Sequence[Sequence[int]]
    """Token ids of each prompt after the prefix that all prompts share."""
    embeddings: Tensor
    """(K, C), not normalised."""
    queries: Tensor
    """(K, H*C), what the cross-adaptation computes from the embeddings."""

    @property
    def encoded(self) -> EncodedPrompts:
        """The prompts as the runtime takes them."""
        return EncodedPrompts(self.names, self.embeddings.numpy(), self.queries.numpy())

    def to_bytes(self) -> bytes:
        """The content of ``prompts.npz``."""
        vectors = torch.cat([self.embeddings, self.queries], dim=1)  # (K, C + H*C)
        return pack_arrays({"texts": np.array(self.texts), "vectors": vectors.numpy()})


def embed_prompts(trained: TrainedStale, prompts: Prompts, spec: TextEncoderSpec) -> EmbeddedPrompts:
    """Embed class names with the trained text tower.

    Args:
        trained: text tower, tokenizer and network.
        prompts: K class names.
        spec: how class names become token ids, see ``stale_model.checkpoints.clip.text_encoder_spec``.

    Raises:
        PromptError: a class name is too long for the tower.
        BundleError: the tokenizer fails on a class name.
    """
    tokenizer = Tokenizer(trained.clip.tokenizer_json, spec)
    texts = spec.fill(prompts.names)
    token_ids = torch.from_numpy(tokenizer(texts, prompts.places))  # (K, L)
    suffixes = tokenizer.suffixes(prompts.names, prompts.places)
    with torch.no_grad():
        embeddings = torch.cat([trained.tower(batch) for batch in token_ids.split(_BATCH)])  # (K, C)
    return EmbeddedPrompts(
        names=prompts.names,
        texts=tuple(texts),
        suffixes=suffixes,
        embeddings=embeddings,
        queries=cross_queries(trained.network, embeddings),
    )
