"""The approximate localizer with its guard: what it is too far off for is computed again by an exact graph."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.backends import LocalizerBackend, exact_backend, open_backend
from stale_runtime.inference.forward_pass import EncodedPrompts, ForwardPass, GuardTally, Outputs, read_outputs
from stale_runtime.inputs.features import resample, resample_for_graph
from stale_runtime.segments import FloatArray


class LocalizerNetwork(Protocol):
    """A localizer that is ready to run, see ``ForwardPass``; threads may share it."""

    def require_memory(self, prompts: EncodedPrompts, length: int, *, windows: int = 1) -> None:
        """See ``ForwardPass.require_memory``."""
        ...

    def inputs(self, features: FloatArray, length: int, prompts: EncodedPrompts) -> dict[str, NDArray[Any]]:
        """See ``ForwardPass.inputs``."""
        ...

    def run(self, inputs: Mapping[str, NDArray[Any]], *, rows: bool = True, tally: GuardTally | None = None) -> Outputs:
        """See ``ForwardPass.run``."""
        ...

    def run_windows(
        self, batch: NDArray[np.float32], prompts: EncodedPrompts, *, tally: GuardTally | None = None
    ) -> Iterator[Outputs]:
        """See ``ForwardPass.run_windows``."""
        ...

    def run_videos(
        self,
        videos: Sequence[FloatArray],
        length: int,
        prompts: EncodedPrompts,
        *,
        rows: bool,
        tallies: Sequence[GuardTally],
    ) -> list[Outputs]:
        """See ``ForwardPass.run_videos``."""
        ...


class GuardedPass:
    """An approximate graph, and the exact one of the same bundle, which is loaded when the first video needs it.

    A video, or a window of one, whose deviation is above the limit is computed by the exact graph. Its outputs are
    those of the exact backend then, bit for bit. Threads may share it.
    """

    def __init__(self, fast: ForwardPass, open_exact: Callable[[], ForwardPass], *, limit: float) -> None:
        """Args: fast: the approximate graph; open_exact: loads the exact one; limit: largest deviation that is fine."""
        self._fast, self._open_exact, self._limit = fast, open_exact, limit
        self._lock = threading.Lock()
        self._opened: ForwardPass | None = None

    def require_memory(self, prompts: EncodedPrompts, length: int, *, windows: int = 1) -> None:
        """See ``ForwardPass.require_memory``; the exact graph takes no less than the approximate one."""
        self._fast.require_memory(prompts, length, windows=windows)

    def inputs(self, features: FloatArray, length: int, prompts: EncodedPrompts) -> dict[str, NDArray[Any]]:
        """What ``run`` makes the inputs of either graph from; arguments as for ``ForwardPass.inputs``."""
        batch = resample_for_graph(features, length)[None]  # (1, T0 or T, C)
        self._fast.check_prompts(prompts)
        return {
            layout.FEATURES: batch,
            layout.LENGTH: np.array(length, np.int64),
            layout.PROMPT_EMBEDDINGS: prompts.embeddings,
            layout.QUERIES: prompts.queries,
        }

    def run(self, inputs: Mapping[str, NDArray[Any]], *, rows: bool = True, tally: GuardTally | None = None) -> Outputs:
        """Run the approximate graph on one video, and the exact one if that deviates too much.

        Args:
            inputs: what ``inputs`` returned.
            rows: as for ``ForwardPass.run``.
            tally: counts the video if it was left to the exact graph.

        Raises:
            BundleError: a graph fails, cannot be loaded, or its outputs are not a localizer's.
        """
        features, length = inputs[layout.FEATURES], int(inputs[layout.LENGTH])
        embeddings, queries = inputs[layout.PROMPT_EMBEDDINGS], inputs[layout.QUERIES]
        prompts = EncodedPrompts(("",) * len(embeddings), embeddings, queries)  # their names play no part here
        batch = np.stack([resample(video, length) for video in features])  # (1, T, C)
        found = self._fast.run_batch(self._fast.batch_inputs(batch, length, prompts), rows=rows, finite=False)
        if not self._deviates(found).any():
            return read_outputs(found)[0]
        _count(tally, 1)
        exact = self._exact()
        return exact.run(exact.batch_inputs(features, length, prompts), rows=rows)

    def run_windows(
        self, batch: NDArray[np.float32], prompts: EncodedPrompts, *, tally: GuardTally | None = None
    ) -> Iterator[Outputs]:
        """Like ``run``, for windows; those that deviate too much are left to the exact graph together.

        Args:
            batch: (B, T, C) windows, resampled to T.
            prompts: K encoded prompts.
            tally: counts the windows that were left to the exact graph.

        Raises:
            PromptError: the prompts do not fit the bundle.
            BundleError: as for ``run``.
        """
        _, T, _ = batch.shape
        found = self._fast.run_batch(self._fast.batch_inputs(batch, T, prompts), rows=False, finite=False)
        outputs, deviates = read_outputs(found), self._deviates(found)
        if deviates.any():
            _count(tally, int(deviates.sum()))
            again = self._exact().run_windows(batch[deviates], prompts)
            for n, exact in zip(np.flatnonzero(deviates), again, strict=True):
                outputs[n] = exact
        return iter(outputs)

    def run_videos(
        self,
        videos: Sequence[FloatArray],
        length: int,
        prompts: EncodedPrompts,
        *,
        rows: bool,
        tallies: Sequence[GuardTally],
    ) -> list[Outputs]:
        """Like ``run``, for several videos; those that deviate too much are left to the exact graph one by one.

        Args:
            videos: features (T0, C) of each, checked.
            length: T that they are resampled to.
            prompts: K encoded prompts.
            rows: as for ``ForwardPass.run_videos``.
            tallies: one for each video, counts it if it was left to the exact graph.

        Raises:
            PromptError: the prompts do not fit the bundle.
            BundleError: as for ``run``.
        """
        batch = np.stack([resample(video, length) for video in videos])  # (B, T, C)
        found = self._fast.run_batch(self._fast.batch_inputs(batch, length, prompts), rows=rows, finite=False)
        outputs = read_outputs(found)
        for n in np.flatnonzero(self._deviates(found)).tolist():
            _count(tallies[n], 1)
            exact = self._exact()
            outputs[n] = exact.run(exact.inputs(videos[n], length, prompts), rows=rows)
        return outputs

    def _deviates(self, found: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
        """Whether the approximation is not good enough for each video of a batch, (B,).

        It is not where the deviation is above the limit or NaN, nor where other outputs are not finite.
        """
        with np.errstate(all="ignore"):
            sums = [
                found[name].sum(axis=tuple(range(1, found[name].ndim)))
                for name in layout.LOCALIZER_OUTPUTS
                if name in found
            ]
        good = np.isfinite(sums).all(axis=0) & (found[layout.KEPT] > 0).any(axis=1)
        return np.asarray(~(good & (found[layout.DEVIATION] <= self._limit)))

    def _exact(self) -> ForwardPass:
        with self._lock:
            if self._opened is None:
                self._opened = self._open_exact()
            return self._opened


def open_network(backend: LocalizerBackend, bundle: Bundle, *, threads: int, working_bytes: int) -> LocalizerNetwork:
    """Load a bundle's localizer; arguments and errors are those of ``open_backend``."""

    def load(chosen: LocalizerBackend) -> ForwardPass:
        session = open_backend(chosen, bundle, threads=threads, working_bytes=working_bytes)
        return ForwardPass(bundle, session, chosen.file)

    network = load(backend)
    record = bundle.manifest.approximation
    if backend.file != layout.LOCALIZER_FAST or record is None:
        return network
    return GuardedPass(network, lambda: load(exact_backend(bundle.manifest)), limit=record.guard_limit)


def _count(tally: GuardTally | None, number: int) -> None:
    if tally is not None:
        tally.recomputed += number
