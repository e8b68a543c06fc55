"""Getting the vectors of prompts from the bundle, from the cache on disk, or from the text tower."""

from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import unpack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import COPY_AGAIN, BundleError
from stale_runtime.inference.prompt_cache import PromptCache
from stale_runtime.inference.prompt_queries import unchangeable
from stale_runtime.inference.text_encoder import PromptVectors, TextEncoder, encoder_identity
from stale_runtime.inputs.prompts import Prompts


class PromptStore:
    """Encodes class names for one bundle, opening its text tower only for names that are not known yet.

    Threads may share a store. Only one of them encodes at a time, so that the text tower is in memory only once.
    """

    def __init__(self, bundle: Bundle, *, cache_folder: Path | None, threads: int) -> None:
        """Read the bundle's own prompts.

        Args:
            bundle: with prompts, tokenizer and text tower.
            cache_folder: where to keep the vectors of other prompts; None to keep none.
            threads: threads that an operator of the text tower may use.

        Raises:
            BundleError: the bundle's prompts are broken, or it has no text tower.
        """
        self._bundle = bundle
        self._threads = threads
        width = (1 + bundle.manifest.heads) * bundle.manifest.channels
        self._vectors = _read_prompts(bundle, width)
        self._cache: PromptCache | None = None
        if cache_folder is not None:
            self._cache = PromptCache(cache_folder, encoder=encoder_identity(bundle), width=width)
        self._lock = Lock()
        self._latest: tuple[tuple[str, ...], PromptVectors] | None = None

    @property
    def cache_problem(self) -> str | None:
        """Why the cache folder is not used; None if it is, or none is wanted."""
        return None if self._cache is None else self._cache.problem

    def encode(self, prompts: Prompts) -> PromptVectors:
        """The vectors of K prompts, as arrays that nobody can change.

        The vectors of the latest prompts also stay in memory.

        Raises:
            PromptError: a name is too long for the text tower.
            BundleError: a file that is needed is broken.
        """
        with self._lock:
            if self._latest is None or self._latest[0] != prompts.texts:
                self._latest = prompts.texts, self._encode(prompts)
            return self._latest[1]

    def _encode(self, prompts: Prompts) -> PromptVectors:
        texts = self._bundle.manifest.text_encoder.fill(prompts.texts)
        known = {text: vector for text in texts if (vector := self._find(text)) is not None}
        missing = [n for n, text in enumerate(texts) if text not in known]
        if missing:
            encoder = TextEncoder(self._bundle, threads=self._threads)
            encoded = encoder.encode([prompts.texts[n] for n in missing], [prompts.places[n] for n in missing])
            new = np.concatenate(encoded, axis=1)  # (N, C + H*C)
            new_texts = [texts[n] for n in missing]
            if self._cache is not None:
                self._cache.put(new_texts, new)
            known |= zip(new_texts, new, strict=True)
        vectors = np.stack([known[text] for text in texts])
        return PromptVectors(*map(unchangeable, np.split(vectors, [self._bundle.manifest.channels], axis=1)))

    def _find(self, text: str) -> NDArray[np.float32] | None:
        """The vector of a text, if the bundle or the cache has it."""
        if text in self._vectors:
            return self._vectors[text]
        return self._cache.get(text) if self._cache is not None else None


def _read_prompts(bundle: Bundle, width: int) -> dict[str, NDArray[np.float32]]:
    """The bundle's own prompts: by text, embedding and queries in one vector (C + H*C,)."""
    arrays = unpack_arrays(bundle.read(layout.PROMPTS), layout.PROMPTS)
    texts, vectors = arrays.get("texts"), arrays.get("vectors")
    if (
        texts is None
        or vectors is None
        or (texts.ndim, texts.dtype.kind, vectors.dtype) != (1, "U", np.dtype(np.float32))
        or vectors.shape != (len(texts), width)
        or not np.isfinite(vectors).all()
    ):
        raise BundleError(f"{layout.PROMPTS}: expected texts and a vector for each; {COPY_AGAIN}")
    return dict(zip(texts.tolist(), vectors, strict=True))
