"""The approximate localizer with its guard: what it is too far off for is computed again by an exact graph."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.backends import LocalizerBackend, exact_backend, open_backend
from stale_runtime.inference.forward_pass import EncodedPrompts, ForwardPass, GraphCall, Outputs, read_outputs
from stale_runtime.segments import FloatArray


class LocalizerNetwork(Protocol):
    """A localizer that is ready to run, see ``ForwardPass``; threads may share it."""

    def require_memory(self, prompts: EncodedPrompts, length: int, *, windows: int = 1) -> None:
        """See ``ForwardPass.require_memory``."""
        ...

    def prepare(self, features: FloatArray, length: int, prompts: EncodedPrompts) -> GraphCall:
        """See ``ForwardPass.prepare``."""
        ...

    def inputs(self, call: GraphCall) -> dict[str, NDArray[Any]]:
        """See ``ForwardPass.inputs``."""
        ...

    def run(self, call: GraphCall, *, rows: bool = True) -> Outputs:
        """See ``ForwardPass.run``."""
        ...

    def run_windows(self, batch: NDArray[np.float32], prompts: EncodedPrompts) -> list[Outputs]:
        """See ``ForwardPass.run_windows``."""
        ...


class GuardedPass:
    """An approximate graph, and the exact one of the same bundle, which is loaded when the first video needs it.

    A video, or a window of one, whose deviation is above the limit is computed by the exact graph. The outputs of a
    whole video are those of the exact backend then, bit for bit. Threads may share it.
    """

    def __init__(self, fast: ForwardPass, open_exact: Callable[[], ForwardPass], *, limit: float) -> None:
        """Args: fast: the approximate graph; open_exact: loads the exact one; limit: largest deviation that is fine."""
        self._fast, self._open_exact, self._limit = fast, open_exact, limit
        self._lock = threading.Lock()
        self._opened: ForwardPass | None = None

    def require_memory(self, prompts: EncodedPrompts, length: int, *, windows: int = 1) -> None:
        """See ``ForwardPass.require_memory``, which counts one graph; the exact one takes as much when it runs."""
        self._fast.require_memory(prompts, length, windows=windows)

    def prepare(self, features: FloatArray, length: int, prompts: EncodedPrompts) -> GraphCall:
        """See ``ForwardPass.prepare``."""
        return self._fast.prepare(features, length, prompts)

    def inputs(self, call: GraphCall) -> dict[str, NDArray[Any]]:
        """The inputs of the approximate graph, by name."""
        return self._fast.inputs(call)

    def run(self, call: GraphCall, *, rows: bool = True) -> Outputs:
        """Run the approximate graph on one video, and the exact one if that deviates too much.

        Args:
            call: what ``prepare`` returned.
            rows: as for ``ForwardPass.run``.

        Raises:
            BundleError: a graph fails, cannot be loaded, or its outputs are not a localizer's.
        """
        return self._guard(call, lambda exact, _: exact.run(call, rows=rows), rows=rows)[0]

    def run_windows(self, batch: NDArray[np.float32], prompts: EncodedPrompts) -> list[Outputs]:
        """Like ``run``, for windows; those that deviate too much are left to the exact graph one by one.

        Args:
            batch: (B, T, C) windows, resampled to T.
            prompts: K encoded prompts.

        Raises:
            PromptError: the prompts do not fit the bundle.
            BundleError: as for ``run``.
        """
        call = self._fast.prepare_windows(batch, prompts)
        return self._guard(call, lambda exact, n: exact.run_windows(batch[n : n + 1], prompts)[0], rows=False)

    def _guard(self, call: GraphCall, recompute: Callable[[ForwardPass, int], Outputs], *, rows: bool) -> list[Outputs]:
        """Run the approximate graph, and the exact one for the videos of the batch that deviate too much.

        Args:
            call: the whole batch.
            recompute: what the exact graph says of the n-th video.
            rows: as for ``ForwardPass.run``.
        """
        found = self._fast.run_batch(call, rows=rows, finite=False)
        outputs = read_outputs(found)
        for n in np.flatnonzero(self._deviates(found)).tolist():
            outputs[n] = recompute(self._exact(), n)._replace(recomputed=True)
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
        deviations = found[layout.DEVIATION].astype(np.float64)  # the limit may be a number that float32 cannot hold
        return np.asarray(~(good & (deviations <= self._limit)))

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
