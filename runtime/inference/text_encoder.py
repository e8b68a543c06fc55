"""From prompts to embeddings: CLIP's tokenizer and text tower, as a bundle carries them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import TextEncoderSpec
from stale_runtime.errors import BundleError, PromptError
from stale_runtime.inference.onnx_session import checked_output, open_session, require_interface, run_session

if TYPE_CHECKING:
    import tokenizers

PROMPT_TEMPLATE = "a video of action {}"
"""What STALE is trained with; a class name stands at ``{}``."""
_STEPS: tuple[str, ...] = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Replace", "Strip", "StripAccents")
_STEPS += ("Split", "ByteLevel", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Punctuation", "Digits")
"""Steps that make a few characters at most of each; CLIP has NFC, Replace of spaces, Lowercase, Split and ByteLevel."""
_MOST_STEPS = 4
_BATCH = 256
"""Prompts encoded at once."""


class PromptVectors(NamedTuple):
    """What the localizer reads of K prompts."""

    embeddings: NDArray[np.float32]
    """(K, C), not normalised."""
    queries: NDArray[np.float32]
    """(K, H*C), the embeddings' side of the cross-adaptation."""


@contextmanager
def tokenizer_errors() -> Iterator[None]:
    """Turn what ``tokenizers`` raises on crafted files into ValueError.

    That is bare Exception, and where its Rust panics not even that.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:
        raise ValueError(" ".join(str(problem).split())[:200] or type(problem).__name__) from problem


def load_tokenizer(tokenizer_json: bytes) -> "tokenizers.Tokenizer":
    """Load a tokenizer of the kind that CLIP's is.

    Args:
        tokenizer_json: the content of a ``tokenizer.json``.

    Raises:
        ValueError: it is none, or has steps that could make any amount of text out of a little.
    """
    from tokenizers import Tokenizer as Implementation

    with tokenizer_errors():
        implementation = Implementation.from_str(tokenizer_json.decode())
        _refuse_growth(implementation.normalizer, "normalizers")
        _refuse_growth(implementation.pre_tokenizer, "pretokenizers")
        implementation.no_padding()
        implementation.no_truncation()
    return implementation


def _refuse_growth(part: Any, steps_key: str) -> None:
    """Args: part: of a tokenizer, None if it has none; steps_key: what its steps are called, where it is a sequence."""
    if part is None:
        return
    whole: dict[str, Any] = json.loads(part.__getstate__())
    steps = whole[steps_key] if whole["type"] == "Sequence" else [whole]
    if len(steps) > _MOST_STEPS:
        raise ValueError(f"{len(steps)} {steps_key}, expected at most {_MOST_STEPS}")
    for step in steps:
        if step["type"] not in _STEPS or len(step.get("content", "")) > 1:
            raise ValueError(f"{steps_key} with {step['type'][:40]}, which CLIP's tokenizer does not have")


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
        try:
            self._implementation = load_tokenizer(tokenizer_json)
        except ValueError as problem:
            raise BundleError(f"{layout.TOKENIZER}: not a tokenizer ({problem}); export the bundle again") from problem
        self._spec = spec

    def rows(self, texts: Sequence[str], places: Sequence[str] | None = None) -> list[list[int]]:
        """Tokenise texts, each to its own length.

        Args:
            texts: K texts.
            places: where each comes from, for messages.

        Returns:
            For each text its token ids, from start token to end token.

        Raises:
            PromptError: a text has more tokens than the text tower takes.
            BundleError: the tokenizer fails at a text.
        """
        try:
            with tokenizer_errors():
                rows = [encoding.ids for encoding in self._implementation.encode_batch(list(texts))]
        except ValueError as problem:
            raise BundleError(f"{layout.TOKENIZER}: fails ({problem}); export the bundle again") from problem
        for n, row in enumerate(rows):
            if len(row) > self._spec.context_length:
                place = places[n] if places is not None else f"prompt {n + 1}"
                raise PromptError(
                    f"{place}: {len(row)} tokens, the text tower takes {self._spec.context_length}; shorten the prompt"
                )
        return rows

    def __call__(self, texts: Sequence[str], places: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Tokenise texts to one length: (K, L), padded to the longest of them; otherwise as ``rows``."""
        rows = self.rows(texts, places)
        ids = np.full((len(rows), max(map(len, rows), default=0)), self._spec.pad_token, dtype=np.int64)
        for n, row in enumerate(rows):
            ids[n, : len(row)] = row
        return ids

    def suffixes(self, names: Sequence[str], places: Sequence[str] | None = None) -> list[list[int]]:
        """What is left of the class names' prompts behind the prefix that all share: name and end token.

        Args:
            names: K class names, put into the prompt template here.
            places: where each comes from, for messages.

        Raises:
            PromptError: a prompt has more tokens than the text tower takes, or a name runs into the prefix.
            BundleError: the tokenizer ends a prompt without the end token.
        """
        prefix = list(self._spec.prefix)
        suffixes = []
        for n, row in enumerate(self.rows(self._spec.fill(names), places)):
            if row[: len(prefix)] != prefix or len(row) == len(prefix):
                place = places[n] if places is not None else f"prompt {n + 1}"
                raise PromptError(f"{place}: {names[n][:60]!r} runs into the words before it; change it")
            if self._spec.pad_token not in row[len(prefix) :]:
                raise BundleError(f"{layout.TOKENIZER}: ends a prompt without an end token; export the bundle again")
            end = row.index(self._spec.pad_token, len(prefix))  # the first counts, should a name hold one
            suffixes.append(row[len(prefix) : end + 1])
        return suffixes


class TextEncoder:
    """CLIP's text tower in ONNX Runtime."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        """Load tokenizer and tower.

        Raises:
            BundleError: either cannot be read.
        """
        spec = bundle.manifest.text_encoder
        self._channels, self._heads = bundle.manifest.channels, bundle.manifest.heads
        self._tokenizer = Tokenizer(bundle.read(layout.TOKENIZER), spec)
        self._session = open_session(bundle.read(layout.TEXT_ENCODER), name=layout.TEXT_ENCODER, threads=threads)
        require_interface(self._session, ("token_ids",), PromptVectors._fields, layout.TEXT_ENCODER)

    def encode(self, names: Sequence[str], places: Sequence[str] | None = None) -> PromptVectors:
        """Encode class names, those of one length in tokens together.

        Args:
            names: K class names, without the template; at least one.
            places: where each comes from, for messages.

        Raises:
            PromptError: a name has more tokens than the tower takes.
        """
        suffixes = self._tokenizer.suffixes(names, places)
        order = sorted(range(len(suffixes)), key=lambda n: len(suffixes[n]))
        results = []
        for _, group in groupby(order, key=lambda n: len(suffixes[n])):
            members = list(group)
            for start in range(0, len(members), _BATCH):
                token_ids = np.array([suffixes[n] for n in members[start : start + _BATCH]], dtype=np.int64)
                found = run_session(self._session, PromptVectors._fields, {"token_ids": token_ids})
                shapes = [(len(token_ids), width) for width in (self._channels, self._heads * self._channels)]
                results.append(PromptVectors(*map(partial(checked_output, layout.TEXT_ENCODER), found, shapes)))
        back = np.argsort(order)
        embeddings, queries = (np.concatenate(parts)[back] for parts in zip(*results, strict=True))
        return PromptVectors(embeddings, queries)


def encoder_identity(bundle: Bundle) -> str:
    """A hash of everything that an embedding depends on beside the text, without opening the tower.

    Raises:
        BundleError: the bundle has no tower.
    """
    manifest = bundle.manifest
    for name in (layout.TEXT_ENCODER, layout.TOKENIZER):
        if name not in manifest.files:
            raise BundleError(f"{bundle.path}: the bundle has no {name}; export it again")
    parts = {
        "files": [manifest.files[name].sha256 for name in (layout.TEXT_ENCODER, layout.TOKENIZER)],
        "width": [manifest.channels, manifest.heads],
        "tokens": asdict(manifest.text_encoder),
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
