"""The prompts of the published network, as the original gives them to its text tower."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.text_encoder import Tokenizer


def padded_token_ids(bundle: Bundle, classes: Sequence[str]) -> NDArray[np.int64]:
    """Token ids (K, L) of all prompts; L is the length of the longest of them, 12 for ActivityNet's 200 classes.

    Source: ``text_features`` in ``stale_model.py`` calls the tokenizer with ``padding=True``, which pads to the longest
        text of the list, with CLIP's end token.
    """
    spec = bundle.manifest.text_encoder
    return Tokenizer(bundle.read(layout.TOKENIZER), spec)(spec.fill(classes))
