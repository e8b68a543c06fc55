"""Running a bundle's localizer graph: its inputs, its outputs, and the memory that this takes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import GraphSpec
from stale_runtime.bundle.onnx_session import Session, checked_output, run_session
from stale_runtime.decoding.action_masks import ActionMasks, FullMasks, SparseMasks
from stale_runtime.decoding.mask_interpolation import interpolate_masks, rows_of_masks
from stale_runtime.errors import COPY_AGAIN, BundleError, PromptError
from stale_runtime.inference.prompt_queries import SplitQueries, split_queries
from stale_runtime.inference.video_landmarks import pooling_weights, spaced_snippets
from stale_runtime.inputs.features import resample, resample_for_graph
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
    masks: ActionMasks
    """That the T snippets propose."""
    recomputed: bool = False
    """Whether the guard of the approximate localizer has left the video to the exact one."""


class GraphCall(NamedTuple):
    """What the inputs of any localizer graph are made from."""

    features: NDArray[np.float32]
    """(B, S, C) of B videos, to be resampled to T if S < T."""
    length: int
    """T, in snippets."""
    prompts: EncodedPrompts
    """K encoded prompts."""


class MaskRows(NamedTuple):
    """What the rows of the masks that a graph computes depend on, besides T."""

    trained: int
    """T0, the number of trained rows of the mask kernel; 0 for a graph that computes all masks."""
    nodes: int | None = None
    """See ``Manifest.mask_nodes``."""


_INPUTS: Mapping[str, Callable[[GraphCall, MaskRows], NDArray[Any]]] = {
    layout.FEATURES: lambda call, _: call.features,
    layout.LENGTH: lambda call, _: np.array(call.length, np.int64),
    layout.PROMPT_EMBEDDINGS: lambda call, _: call.prompts.embeddings,
    layout.QUERIES: lambda call, _: call.prompts.queries,
    layout.MEAN_QUERY: lambda call, _: _split_queries(call.prompts).mean,
    layout.QUERY_SPREAD: lambda call, _: _split_queries(call.prompts).spread,
    layout.MASK_ROWS: lambda call, rows: interpolate_masks(rows.trained, call.length, rows.nodes).rows,
    layout.MASK_LIFT: lambda call, rows: interpolate_masks(rows.trained, call.length, rows.nodes).lift,
    layout.POOLING: lambda call, _: pooling_weights(call.length),
    layout.SPACED: lambda call, _: spaced_snippets(call.length),
}
"""How each input is made that a localizer graph may have."""
_OUTPUTS = (
    layout.LOCALIZER_OUTPUTS,
    (*layout.LOCALIZER_OUTPUTS, layout.DEVIATION),
    layout.FULL_MASK_OUTPUTS,
)
"""Names of the outputs that a localizer graph may have."""


def make_inputs(names: Sequence[str], call: GraphCall, rows: MaskRows) -> dict[str, NDArray[Any]]:
    """The inputs of a localizer graph, by name.

    Args:
        names: of the graph's inputs, see ``stale_runtime.bundle.layout``. A graph without ``length`` gets features that
            are resampled.
        call: the videos and the prompts.
        rows: the rows of the masks that the graph computes.
    """
    _, S, _ = call.features.shape
    if layout.LENGTH not in names and call.length != S:
        call = call._replace(features=np.stack([resample(video, call.length) for video in call.features]))  # (B, T, C)
    return {name: _INPUTS[name](call, rows) for name in names}


def read_outputs(outputs: Mapping[str, NDArray[np.float32]]) -> list[Outputs]:
    """What a localizer graph says of each video of a batch.

    Args:
        outputs: by name, as in ``stale_runtime.bundle.layout``; the logits of the masks may be missing.
    """
    cas_logits = outputs[layout.CAS_LOGITS]  # (B, K+1, T)
    if layout.ACTION_MASKS in outputs:
        masks: list[ActionMasks] = [FullMasks(full) for full in outputs[layout.ACTION_MASKS]]
    else:
        logits = outputs.get(layout.MASK_LOGITS, [None] * len(cas_logits))
        parts = zip(outputs[layout.KEPT] > 0, outputs[layout.KEPT_MASK], logits, strict=True)
        masks = [SparseMasks(kept=kept, kept_mask=mean, logits=trained) for kept, mean, trained in parts]
    return [Outputs(*video) for video in zip(cas_logits, masks, strict=True)]


class ForwardPass:
    """A localizer graph that is ready to run; threads may share it."""

    def __init__(self, bundle: Bundle, session: Session, file: str) -> None:
        """Args: bundle: whose graph it is; session: the graph, loaded; file: the graph's file in the bundle.

        Raises:
            BundleError: the manifest says that the graph has inputs or outputs that no localizer has.
        """
        self._manifest, self._name = bundle.manifest, str(bundle.path)
        self._session = session
        spec = bundle.manifest.graph(file)
        self._input_names, self._output_names = _known_interface(spec, file)
        self._rows = MaskRows(_trained_rows(spec, file), bundle.manifest.mask_nodes)
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
        trained, nodes = self._rows
        rows = rows_of_masks(trained, length, nodes) if trained else length
        channels = self._manifest.channels
        needed = detection_bytes(length=length, rows=rows, classes=K, channels=channels, windows=windows)
        if needed > self._granted_bytes:
            require_memory(needed, f"T={length} with {K:,} prompts", "take a smaller --length or fewer prompts")
            self._granted_bytes = needed

    def prepare(self, features: FloatArray, length: int, prompts: EncodedPrompts) -> GraphCall:
        """What ``run`` and ``inputs`` take for one video.

        Args:
            features: (T0, C), checked.
            length: T that they are resampled to, unless the graph does that itself and is faster then.
            prompts: K encoded prompts.

        Raises:
            PromptError: the prompts do not fit the bundle.
        """
        self._check_prompts(prompts)
        return GraphCall(resample_for_graph(features, length)[None], length, prompts)  # (1, T0 or T, C)

    def prepare_windows(self, batch: NDArray[np.float32], prompts: EncodedPrompts) -> GraphCall:
        """Like ``prepare``, for windows (B, T, C) that have been resampled to T."""
        self._check_prompts(prompts)
        return GraphCall(batch, batch.shape[1], prompts)

    def inputs(self, call: GraphCall) -> dict[str, NDArray[Any]]:
        """The inputs of the graph, by name."""
        return make_inputs(self._input_names, call, self._rows)

    def run(self, call: GraphCall, *, rows: bool = True) -> Outputs:
        """Run the graph on one video.

        Args:
            call: what ``prepare`` returned.
            rows: whether somebody will read rows of the masks.

        Raises:
            BundleError: the graph fails, or its outputs are not a localizer's.
        """
        return read_outputs(self.run_batch(call, rows=rows))[0]

    def run_windows(self, batch: NDArray[np.float32], prompts: EncodedPrompts) -> list[Outputs]:
        """Run the graph on several windows at once.

        Args:
            batch: (B, T, C) windows, resampled to T.
            prompts: K encoded prompts.

        Returns:
            The outputs for each window, without rows of the masks.

        Raises:
            PromptError: the prompts do not fit the bundle.
            BundleError: the graph fails, or its outputs are not a localizer's.
        """
        return read_outputs(self.run_batch(self.prepare_windows(batch, prompts), rows=False))

    def _check_prompts(self, prompts: EncodedPrompts) -> None:
        """Make sure that encoded prompts fit the bundle.

        Raises:
            PromptError: they do not.
        """
        channels, K = self._manifest.channels, len(prompts.names)
        shapes = prompts.embeddings.shape, prompts.queries.shape
        expected = (K, channels), (K, self._manifest.heads * channels)
        if shapes != expected:
            raise PromptError(
                f"encoded prompts of shapes {shapes}, expected {expected}; pass what encode_prompts of this localizer "
                "returned"
            )

    def run_batch(self, call: GraphCall, *, rows: bool, finite: bool = True) -> dict[str, NDArray[np.float32]]:
        """The outputs of the graph, by name as in ``stale_runtime.bundle.layout``.

        Args:
            call: what ``prepare`` or ``prepare_windows`` returned.
            rows: whether the logits of the masks are wanted.
            finite: whether a video without finite outputs is an error.

        Raises:
            BundleError: the graph fails, or its outputs are not a localizer's.
        """
        names = [name for name in self._output_names if rows or name != layout.MASK_LOGITS]
        B, T, K = len(call.features), call.length, len(call.prompts.names)
        shapes = {
            layout.CAS_LOGITS: (B, K + 1, T),
            layout.KEPT: (B, T),
            layout.KEPT_MASK: (B, T),
            layout.MASK_LOGITS: (B, self._rows.trained, T),
            layout.ACTION_MASKS: (B, T, T),
            layout.DEVIATION: (B,),
        }
        found = dict(zip(names, run_session(self._session, names, self.inputs(call)), strict=True))
        outputs = {name: checked_output(self._name, out, shapes[name], finite=finite) for name, out in found.items()}
        if finite and layout.KEPT in outputs and not (outputs[layout.KEPT] > 0).any(axis=1).all():
            raise BundleError(f"{self._name}: keeps no snippet of a video, expected at least one; {COPY_AGAIN}")
        return outputs


def _split_queries(prompts: EncodedPrompts) -> SplitQueries:
    return split_queries(prompts.queries, prompts.embeddings.shape[1])


def _known_interface(spec: GraphSpec, file: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of a localizer graph's inputs and outputs.

    Raises:
        BundleError: it has others than a localizer.
    """
    inputs, outputs = (tuple(tensor.name for tensor in tensors) for tensors in (spec.inputs, spec.outputs))
    needed = {layout.FEATURES, layout.PROMPT_EMBEDDINGS}
    known = needed <= set(inputs) <= _INPUTS.keys()
    if not known or set(outputs) not in map(set, _OUTPUTS):
        raise BundleError(
            f"{file}: a graph from {', '.join(inputs)[:80]} to {', '.join(outputs)[:80]}, which is no localizer; "
            f"{COPY_AGAIN}"
        )
    return inputs, outputs


def _trained_rows(spec: GraphSpec, file: str) -> int:
    """T0 of a localizer graph, the number of trained rows of its mask kernel; 0 if it makes all masks itself.

    Raises:
        BundleError: it is not what a network can have.
    """
    shapes = [tensor.shape for tensor in spec.inputs if tensor.name == layout.MASK_ROWS]
    if not shapes:
        return 0
    rows = shapes[0][-1] if len(shapes[0]) == 2 else None
    if not isinstance(rows, int) or not layout.SHORTEST <= rows <= layout.LONGEST:
        raise BundleError(f"{file}: {layout.MASK_ROWS} has shape {shapes[0]}, expected (P, T0); {COPY_AGAIN}")
    return rows
