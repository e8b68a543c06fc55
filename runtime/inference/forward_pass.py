"""Running a bundle's localizer graph: its inputs, its outputs, and the memory that this takes."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.onnx_session import Session, checked_output, run_session
from stale_runtime.errors import PromptError
from stale_runtime.inputs.features import resample_for_graph
from stale_runtime.segments import FloatArray
from stale_runtime.system.memory import detection_bytes, require_memory


class EncodedPrompts(NamedTuple):
    """Class names and the vectors that the network reads instead of them."""

    names: tuple[str, ...]
    """K class names, the labels of detections."""
    embeddings: NDArray[np.float32]
    """(K, C)"""
    queries: NDArray[np.float32]
    """(K, H*C)"""


class Outputs(NamedTuple):
    """The network's outputs for one video."""

    cas_logits: NDArray[np.float32]
    """(K+1, T) class activation sequence, background last."""
    action_masks: NDArray[np.float32]
    """(T, T), row t is the mask that snippet t proposes."""


class ForwardPass:
    """A localizer graph that is ready to run; threads may share it."""

    def __init__(self, bundle: Bundle, session: Session) -> None:
        """Args: bundle: whose graph it is; session: the graph, loaded."""
        self._manifest, self._name = bundle.manifest, str(bundle.path)
        self._session = session
        self._granted_bytes = 0

    def require_memory(self, prompts: EncodedPrompts, length: int, *, windows: int = 1) -> None:
        """Make sure that there is memory for running the graph.

        An amount that was granted once is not checked again: ONNX Runtime keeps the memory that it has taken.

        Args:
            prompts: K encoded prompts.
            length: T, in snippets.
            windows: how many inputs of T snippets it gets at once.

        Raises:
            OutOfMemoryError: there is not enough.
        """
        K = len(prompts.names)
        needed = detection_bytes(length=length, classes=K, channels=self._manifest.channels, windows=windows)
        if needed > self._granted_bytes:
            require_memory(needed, f"T={length} with {K:,} prompts", "take a smaller --length or fewer prompts")
            self._granted_bytes = needed

    def inputs(self, features: FloatArray, length: int, prompts: EncodedPrompts) -> dict[str, NDArray[Any]]:
        """The inputs of the graph for one video.

        Args:
            features: (T0, C), checked.
            length: T that they are resampled to; the graph does that itself where that is faster.
            prompts: K encoded prompts.

        Raises:
            PromptError: the prompts do not fit the bundle.
        """
        return self._inputs(resample_for_graph(features, length)[None], length, prompts)  # (1, T0 or T, C)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        """Run the graph on one video.

        Args:
            inputs: what ``inputs`` returned.

        Raises:
            BundleError: the graph fails, or its outputs are not a localizer's.
        """
        return Outputs(*(output[0] for output in self._run(inputs)))

    def run_windows(
        self, batch: NDArray[np.float32], prompts: EncodedPrompts
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Run the graph on several windows at once.

        Args:
            batch: (B, T, C) windows, resampled to T.
            prompts: K encoded prompts.

        Returns:
            The outputs for each window.

        Raises:
            PromptError: the prompts do not fit the bundle.
            BundleError: the graph fails, or its outputs are not a localizer's.
        """
        _, T, _ = batch.shape
        return zip(*self._run(self._inputs(batch, T, prompts)), strict=True)

    def _inputs(self, batch: NDArray[np.float32], length: int, prompts: EncodedPrompts) -> dict[str, NDArray[Any]]:
        channels, K = self._manifest.channels, len(prompts.names)
        shapes = prompts.embeddings.shape, prompts.queries.shape
        expected = (K, channels), (K, self._manifest.heads * channels)
        if shapes != expected:
            raise PromptError(
                f"encoded prompts of shapes {shapes}, expected {expected}; pass what encode_prompts of this localizer "
                "returned"
            )
        return layout.localizer_inputs(batch, length, prompts.embeddings, prompts.queries)

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Class activation sequences (B, K+1, T) and action masks (B, T, T)."""
        found = run_session(self._session, layout.LOCALIZER_OUTPUTS, inputs)
        features, length, embeddings, _ = (inputs[name] for name in layout.LOCALIZER_INPUTS)
        B, K, T = len(features), len(embeddings), int(length)
        cas_logits = checked_output(self._name, found[0], (B, K + 1, T))
        action_masks = checked_output(self._name, found[1], (B, T, T))
        return cas_logits, action_masks
