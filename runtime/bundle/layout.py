"""The names of a bundle's files, and of the inputs and outputs of its graphs, which are defined only here."""

from typing import Final

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "model.sig"
"""Only in a signed bundle."""
LOCALIZER_FP32: Final = "localizer.fp32.onnx"
LOCALIZER_INT8: Final = "localizer.int8.onnx"
LOCALIZER_INT8_DYNAMIC: Final = "localizer.int8-dynamic.onnx"
LOCALIZER_FAST: Final = "localizer.fast.onnx"
"""The approximate localizer, whose cost is linear in T."""
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

FEATURES: Final = "features"
"""(B, S, C) of float32: features of S snippets, which most graphs resample to T themselves if S < T."""
LENGTH: Final = "length"
"""() of int64: T, in snippets."""
PROMPT_EMBEDDINGS: Final = "prompts"
"""(K, C) of float32."""
QUERIES: Final = "queries"
"""(K, H*C) of float32: the prompts' queries of the cross-adaptation. Also an output of the text encoder."""
MASK_ROWS: Final = "mask_rows"
"""(P, T0) of float32, see ``stale_runtime.decoding.mask_interpolation``; not before format version 5."""
MASK_LIFT: Final = "mask_lift"
"""(T, P) of float32, likewise."""
MEAN_QUERY: Final = "mean_query"
"""(C, H, 1) of float32, see ``stale_runtime.inference.prompt_queries``; only of the approximate localizer."""
QUERY_SPREAD: Final = "query_spread"
"""(H, K, C) of float32, likewise."""
POOLING: Final = "pooling"
"""(1+M, T) of float32, see ``stale_runtime.inference.video_landmarks``; only of the approximate localizer."""
SPACED: Final = "spaced"
"""(G,) of int64, likewise."""

CAS_LOGITS: Final = "cas_logits"
"""(B, K+1, T) class activation sequence, background last."""
KEPT: Final = "kept"
"""(B, T), 1 for each snippet that representation masking keeps, else 0."""
KEPT_MASK: Final = "kept_mask"
"""(B, T), the mean of the masks that the kept snippets propose."""
MASK_LOGITS: Final = "mask_logits"
"""(B, T0, T): for each trained row of the mask kernel its mask, before the sigmoid."""
DEVIATION: Final = "deviation"
"""(B,): how far the approximate localizer is from exact attention in the snippets that get both."""
ACTION_MASKS: Final = "action_masks"
"""(B, T, T), row t the mask that snippet t proposes; a graph has this output in formats below 5."""

LOCALIZER_INPUTS: Final = (FEATURES, LENGTH, PROMPT_EMBEDDINGS, QUERIES, MASK_ROWS, MASK_LIFT)
LOCALIZER_OUTPUTS: Final = (CAS_LOGITS, KEPT, KEPT_MASK, MASK_LOGITS)
FULL_MASK_OUTPUTS: Final = (CAS_LOGITS, ACTION_MASKS)
"""Outputs of a localizer graph in formats below 5."""
TEXT_ENCODER_INPUTS: Final = ("token_ids",)
EMBEDDINGS: Final = "embeddings"
TEXT_ENCODER_OUTPUTS: Final = (EMBEDDINGS, QUERIES)
IMAGES: Final = "images"
IMAGE_EMBEDDINGS: Final = "image_embeddings"
