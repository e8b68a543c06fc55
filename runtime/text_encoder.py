"""From prompts to embeddings: CLIP's tokenizer and text tower, as a bundle carries them."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import Bundle
from stale_runtime.errors import BundleError, PromptError
from stale_runtime.manifest import TextEncoderSpec
from stale_runtime.sessions import open_session, require_interface

TEXT_ENCODER_NAME = "text_encoder.onnx"
TOKENIZER_NAME = "tokenizer.json"
PROMPT_TEMPLATE = "a video of action {}"
"""What STALE is trained with; a class name stands at ``{}``."""
_BATCH = 64


class Tokenizer:
    """CLIP's tokenizer."""

    def __init__(self, tokenizer_json: bytes, spec: TextEncoderSpec) -> None:
        """Load the tokenizer.

        Args:
            tokenizer_json: the content of a ``tokenizer.json``.
            spec: gives context length and pad token.

        Raises:
            BundleError: it is no tokenizer.
        """
        from tokenizers import Tokenizer as Implementation

        try:
            self._implementation = Implementation.from_str(tokenizer_json.decode())
        except Exception as problem:  # the library raises bare Exception
            raise BundleError(f"{TOKENIZER_NAME}: not a tokenizer ({problem}); export the bundle again") from problem
        self._implementation.no_padding()
        self._implementation.no_truncation()
        self._spec = spec

    def __call__(self, texts: Sequence[str], places: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Tokenise texts.

        Args:
            texts: K texts.
            places: where each comes from, for messages.

        Returns:
            (K, L) token ids, start and end token included, padded to the longest of them.

        Raises:
            PromptError: a text has more tokens than the text tower takes.
        """
        rows = [encoding.ids for encoding in self._implementation.encode_batch(list(texts))]
        for n, row in enumerate(rows):
            if len(row) > self._spec.context_length:
                place = places[n] if places is not None else f"prompt {n + 1}"
                raise PromptError(
                    f"{place}: {len(row)} tokens, the text tower takes {self._spec.context_length}; shorten the prompt"
                )
        ids = np.full((len(rows), max(map(len, rows), default=0)), self._spec.pad_token, dtype=np.int64)
        for n, row in enumerate(rows):
            ids[n, : len(row)] = row
        return ids


class TextEncoder:
    """CLIP's text tower in ONNX Runtime."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        """Load tokenizer and tower.

        Raises:
            BundleError: either cannot be read.
        """
        spec = bundle.manifest.text_encoder
        self._tokenizer = Tokenizer(bundle.read(TOKENIZER_NAME), spec)
        self._session = open_session(bundle.read(TEXT_ENCODER_NAME), name=TEXT_ENCODER_NAME, threads=threads)
        require_interface(self._session, ("token_ids",), ("embeddings",), TEXT_ENCODER_NAME)

    def encode(self, texts: Sequence[str], places: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Embed texts as they stand, without a template.

        Args:
            texts: K texts.
            places: where each comes from, for messages.

        Returns:
            (K, C), not normalised.

        Raises:
            PromptError: a text has more tokens than the tower takes.
        """
        ids = self._tokenizer(texts, places)
        batches = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]
        return np.concatenate([self._session.run(["embeddings"], {"token_ids": batch})[0] for batch in batches])


def encoder_identity(bundle: Bundle) -> str:
    """A hash of everything that an embedding depends on beside the text, without opening the tower."""
    files = bundle.manifest.files
    parts = [files[name].sha256 for name in (TEXT_ENCODER_NAME, TOKENIZER_NAME)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
