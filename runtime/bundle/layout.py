"""The names of a bundle's files, and of the inputs and outputs of its graphs, which are defined only here."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "model.sig"
"""Only in a signed bundle."""
LOCALIZER_FP32: Final = "localizer.fp32.onnx"
LOCALIZER_INT8: Final = "localizer.int8.onnx"
LOCALIZER_INT8_DYNAMIC: Final = "localizer.int8-dynamic.onnx"
LOCALIZER_TORCH: Final = "localizer.torch.pth"
LOCALIZER_TORCH_INT8: Final = "localizer.torch-int8.pth"
TEXT_ENCODER: Final = "text_encoder.onnx"
VISION_ENCODER: Final = "vision_encoder.onnx"
VISION_ENCODER_INT8: Final = "vision_encoder.int8.onnx"
VISION_ENCODERS: Final = (VISION_ENCODER, VISION_ENCODER_INT8)
"""Only in a bundle with a vision tower. Only videos need them, so a bundle can be opened where they are missing."""
TOKENIZER: Final = "tokenizer.json"
PROMPTS: Final = "prompts.npz"
"""Training classes: arrays ``texts`` (K,) and ``vectors`` (K, C + H*C), the embedding and queries of each."""
SELF_TEST: Final = "selftest.npz"
"""Recorded inputs and outputs, replayed by ``stale-run --self-test``."""

SHORTEST, LONGEST = 16, 4096
"""Temporal scales T that a localizer graph accepts, in snippets."""

LOCALIZER_INPUTS: Final = ("features", "length", "prompts", "queries")
CAS_LOGITS: Final = "cas_logits"
ACTION_MASKS: Final = "action_masks"
LOCALIZER_OUTPUTS: Final = (CAS_LOGITS, ACTION_MASKS)
TEXT_ENCODER_INPUTS: Final = ("token_ids",)
EMBEDDINGS: Final = "embeddings"
QUERIES: Final = "queries"
TEXT_ENCODER_OUTPUTS: Final = (EMBEDDINGS, QUERIES)
IMAGES: Final = "images"
IMAGE_EMBEDDINGS: Final = "image_embeddings"


def localizer_inputs(
    features: NDArray[np.float32], length: int, embeddings: NDArray[np.float32], queries: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    """The inputs of a localizer graph, by name.

    Args:
        features: (B, T0, C); the graph resamples them to T.
        length: T, in snippets.
        embeddings: (K, C) of the prompts.
        queries: (K, H*C) of the prompts.
    """
    values = (features, np.array(length, np.int64), embeddings, queries)
    return dict(zip(LOCALIZER_INPUTS, values, strict=True))
