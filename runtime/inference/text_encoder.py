"""From prompts to embeddings: the CLIP tokenizer and text tower of a bundle."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import TextEncoderSpec
from stale_runtime.bundle.onnx_session import (
    TOWER_LIMITS,
    checked_output,
    open_session,
    require_interface,
    run_session,
)
from stale_runtime.errors import COPY_AGAIN, BundleError, PromptError

if TYPE_CHECKING:
    import tokenizers

PROMPT_TEMPLATE = "a video of action {}"
"""The prompt that STALE is trained with; ``{}`` stands for the class name."""
_BATCH = 256
"""Prompts encoded at once."""


class PromptVectors(NamedTuple):
    """The vectors that the localizer reads for K prompts."""

    embeddings: NDArray[np.float32]
    """(K, C), not normalised."""
    queries: NDArray[np.float32]
    """(K, H*C), the prompts' side of the cross-adaptation."""


@contextmanager
def tokenizer_errors() -> Iterator[None]:
    """Turn whatever ``tokenizers`` raises on crafted files into ValueError.

    It raises plain ``Exception``, and when its Rust code panics a ``BaseException``.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:
        raise ValueError(" ".join(str(problem).split())[:200] or type(problem).__name__) from problem


def load_tokenizer(tokenizer_json: bytes) -> "tokenizers.Tokenizer":
    """Load a tokenizer like CLIP's.

    Args:
        tokenizer_json: the content of a ``tokenizer.json``.

    Raises:
        ValueError: it is not a tokenizer, or has parts that CLIP's tokenizers do not have.
    """
    from tokenizers import Tokenizer as Implementation

    from stale_runtime.inference.tokenizer_check import require_clip_tokenizer  # only new prompts need it

    require_clip_tokenizer(tokenizer_json)
    with tokenizer_errors():
        implementation = Implementation.from_str(tokenizer_json.decode())
        implementation.no_padding()
        implementation.no_truncation()
    return implementation


class Tokenizer:
    """CLIP's tokenizer."""

    def __init__(self, tokenizer_json: bytes, spec: TextEncoderSpec) -> None:
        """Load the tokenizer.

        Args:
            tokenizer_json: the content of a ``tokenizer.json``.
            spec: the text encoder's context length, pad token and prefix.

        Raises:
            BundleError: it is not a tokenizer.
        """
        try:
            self._implementation = load_tokenizer(tokenizer_json)
        except ValueError as problem:
            raise BundleError(f"{layout.TOKENIZER}: not a tokenizer like CLIP's ({problem}); {COPY_AGAIN}") from problem
        self._spec = spec

    def rows(self, texts: Sequence[str], places: Sequence[str] | None = None) -> list[list[int]]:
        """Tokenise texts, without padding.

        Args:
            texts: K texts.
            places: where each text comes from, for messages.

        Returns:
            The token ids of each text, from start token to end token.

        Raises:
            PromptError: a text has more tokens than the text tower accepts.
            BundleError: the tokenizer fails.
        """
        try:
            with tokenizer_errors():
                rows = [encoding.ids for encoding in self._implementation.encode_batch(list(texts))]
        except ValueError as problem:
            raise BundleError(f"{layout.TOKENIZER}: fails ({problem}); {COPY_AGAIN}") from problem
        for n, row in enumerate(rows):
            if len(row) > self._spec.context_length:
                place = places[n] if places is not None else f"prompt {n + 1}"
                raise PromptError(
                    f"{place}: {len(row)} tokens, the text tower takes {self._spec.context_length}; shorten the prompt"
                )
        return rows

    def __call__(self, texts: Sequence[str], places: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Tokenise K texts like ``rows``, padded to the longest: (K, L)."""
        rows = self.rows(texts, places)
        ids = np.full((len(rows), max(map(len, rows), default=0)), self._spec.pad_token, dtype=np.int64)
        for n, row in enumerate(rows):
            ids[n, : len(row)] = row
        return ids

    def suffixes(self, names: Sequence[str], places: Sequence[str] | None = None) -> list[list[int]]:
        """The token ids that follow the prefix which all prompts share: class name and end token.

        Args:
            names: K class names, without the prompt template.
            places: where each name comes from, for messages.

        Raises:
            PromptError: a prompt has more tokens than the text tower accepts, or a name merges with the prefix.
            BundleError: the tokenizer ends a prompt without the end token.
        """
        prefix = list(self._spec.prefix)
        suffixes = []
        for n, row in enumerate(self.rows(self._spec.fill(names), places)):
            if row[: len(prefix)] != prefix or len(row) == len(prefix):
                place = places[n] if places is not None else f"prompt {n + 1}"
                raise PromptError(
                    f"{place}: the tokenizer merges {names[n][:60]!r} with the words before it; rename the class"
                )
            if self._spec.pad_token not in row[len(prefix) :]:
                raise BundleError(f"{layout.TOKENIZER}: ends a prompt without an end token; {COPY_AGAIN}")
            end = row.index(self._spec.pad_token, len(prefix))  # the first counts, if a name contains one too
            suffixes.append(row[len(prefix) : end + 1])
        return suffixes


class TextEncoder:
    """CLIP's text tower in ONNX Runtime."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        """Load the tokenizer and the tower.

        Raises:
            BundleError: one of them cannot be read.
        """
        spec = bundle.manifest.text_encoder
        self._channels, self._heads = bundle.manifest.channels, bundle.manifest.heads
        self._tokenizer = Tokenizer(bundle.read(layout.TOKENIZER), spec)
        self._session = open_session(
            bundle.read(layout.TEXT_ENCODER), name=layout.TEXT_ENCODER, threads=threads, limits=TOWER_LIMITS
        )
        require_interface(self._session, layout.TEXT_ENCODER_INPUTS, layout.TEXT_ENCODER_OUTPUTS, layout.TEXT_ENCODER)

    def encode(self, names: Sequence[str], places: Sequence[str] | None = None) -> PromptVectors:
        """Encode class names, in batches of equal length in tokens.

        Args:
            names: K class names, without the template; at least one.
            places: where each name comes from, for messages.

        Raises:
            PromptError: a name has more tokens than the tower accepts.
            BundleError: tokenizer or tower fail.
        """
        suffixes = self._tokenizer.suffixes(names, places)
        order = sorted(range(len(suffixes)), key=lambda n: len(suffixes[n]))
        results = []
        for _, group in groupby(order, key=lambda n: len(suffixes[n])):
            rows = [suffixes[n] for n in group]
            results += [self._run(np.array(rows[i : i + _BATCH], np.int64)) for i in range(0, len(rows), _BATCH)]
        back = np.argsort(order)
        embeddings, queries = (np.concatenate(parts)[back] for parts in zip(*results, strict=True))
        return PromptVectors(embeddings, queries)

    def _run(self, token_ids: NDArray[np.int64]) -> PromptVectors:
        """Encode suffixes of one length: (N, L)."""
        (name,) = layout.TEXT_ENCODER_INPUTS
        found = run_session(self._session, layout.TEXT_ENCODER_OUTPUTS, {name: token_ids})
        shapes = [(len(token_ids), width) for width in (self._channels, self._heads * self._channels)]
        return PromptVectors(*map(partial(checked_output, layout.TEXT_ENCODER), found, shapes))


def encoder_identity(bundle: Bundle) -> str:
    """A hash of everything that an embedding depends on except its text, computed without opening the tower.

    Raises:
        BundleError: the bundle has no tokenizer or text tower.
    """
    manifest = bundle.manifest
    for name in (layout.TEXT_ENCODER, layout.TOKENIZER):
        if name not in manifest.files:
            raise BundleError(f"{bundle.path}: the bundle has no {name}; {COPY_AGAIN}")
    parts = {
        "files": [manifest.files[name].sha256 for name in (layout.TEXT_ENCODER, layout.TOKENIZER)],
        "width": [manifest.channels, manifest.heads],
        "tokens": asdict(manifest.text_encoder),
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
