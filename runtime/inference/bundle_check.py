"""Replaying a bundle's recorded inputs and outputs on the machine at hand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import unpack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BundleError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, backend_problem
from stale_runtime.inference.localizer import EncodedPrompts, Localizer, Outputs, Settings
from stale_runtime.inference.text_encoder import TextEncoder

LIMITS = {"embeddings": 1e-3, "queries": 1e-3, "cas_logits": 2e-3, "action_masks": 1e-4}
"""Largest absolute deviations from the recording, with room for another CPU's arithmetic."""
INT8_SHARE = 0.1
"""Of an output's standard deviation, that int8 may lie from the network on average. Measured: 0.006 to 0.04 on ten
networks; with the scale of a layer's weights half too large, 0.16 to 0.8 where that layer decides anything."""
REPLAY_SHARE = 0.005
"""Of an output's standard deviation, that an int8 graph may lie on average from itself on the machine that exported
it. Integers are exact, so next to nothing is right: measured 1e-6 on an emulated CPU without VNNI, where the
saturation of 8-bit weights comes to 0.02 (masks) and 0.05 (class activations)."""
INT8_COSINE = 0.03
"""How far an int8 text encoder's cosine with the network may lie from 1."""
_FLOAT = np.dtype(np.float32)
_ARRAYS: dict[str, tuple[object, int]] = {
    "names": ("U", 1),
    "features": (_FLOAT, 2),
    "embeddings": (_FLOAT, 2),
    "queries": (_FLOAT, 2),
    "cas_logits": (_FLOAT, 2),
    "action_masks": (_FLOAT, 2),
}
"""Type and number of axes of each recorded array."""


class Check(NamedTuple):
    """One thing that was tested."""

    what: str
    deviation: float | None
    """From the recording; None where bytes were compared."""
    limit: float | None
    measure: str = "deviation"
    """What the deviation is: the largest, unless said otherwise."""

    @property
    def passed(self) -> bool:
        """Whether the deviation is within the limit."""
        return self.deviation is None or self.limit is None or self.deviation <= self.limit


def self_test(bundle: Bundle) -> Iterator[Check]:
    """Read every file of a bundle and run every graph on recorded inputs.

    Yields:
        What was tested, passed or not.

    Raises:
        BundleError: a file is broken.
    """
    for name in bundle.verify():
        yield Check(name, None, None)
    manifest = bundle.manifest
    backends = [
        backend
        for backend in LOCALIZER_BACKENDS.values()
        if backend.file in manifest.files and backend_problem(backend, manifest) is None
    ]
    if not backends:
        raise BundleError(
            f"{bundle.path}: the bundle has no graph for any of {', '.join(LOCALIZER_BACKENDS)}; export it again"
        )
    quantized = {record.file for record in manifest.quantization}
    coarse = [backend.name for backend in backends if backend.precision == "bf16" or backend.file in quantized]
    replayed = [name for name in coarse if LOCALIZER_BACKENDS[name].engine == "onnxruntime"]
    recorded = unpack_arrays(bundle.read(layout.SELF_TEST), layout.SELF_TEST)
    _check_recording(recorded, manifest.channels, manifest.heads, replayed)
    vectors = TextEncoder(bundle).encode(recorded["names"].tolist())
    for output, value in zip(vectors._fields, vectors, strict=True):
        compare = _compare_directions if layout.TEXT_ENCODER in quantized else _compare
        yield compare("text encoder", output, value, recorded[output])
    prompts = EncodedPrompts(tuple(recorded["names"].tolist()), recorded["embeddings"], recorded["queries"])
    for backend in [backend.name for backend in backends]:
        localizer = Localizer(bundle, Settings(backend=backend, length=recorded["action_masks"].shape[-1]))
        outputs = localizer.outputs(recorded["features"], prompts)
        for output, value in zip(outputs._fields, outputs, strict=True):
            if backend not in coarse:
                yield _compare(backend, output, value, recorded[output])
                continue
            yield _compare_means(backend, output, value, recorded[output], INT8_SHARE, "mean deviation")
            if backend in replayed:
                exported = recorded[replay_name(backend, output)]
                yield _compare_means(backend, output, value, exported, REPLAY_SHARE, "mean deviation from the export")


def replay_name(backend: str, output: str) -> str:
    """The array that holds what an int8 graph said on the machine that exported it."""
    return f"{backend}.{output}"


def _check_recording(recorded: Mapping[str, NDArray[Any]], channels: int, heads: int, replayed: Sequence[str]) -> None:
    """Make sure that the arrays are there, of the right types, and fit one another."""
    kinds = {name: ("U" if array.dtype.kind == "U" else array.dtype, array.ndim) for name, array in recorded.items()}
    replays = {replay_name(backend, output): output for backend in replayed for output in Outputs._fields}
    fits = kinds == _ARRAYS | {replay: _ARRAYS[output] for replay, output in replays.items()}
    if fits:
        K, T = len(recorded["names"]), recorded["action_masks"].shape[1]
        fits = (
            K > 0
            and layout.SHORTEST <= T <= layout.LONGEST
            and recorded["features"].shape[1] == channels
            and recorded["embeddings"].shape == (K, channels)
            and recorded["queries"].shape == (K, heads * channels)
            and recorded["cas_logits"].shape == (K + 1, T)
            and recorded["action_masks"].shape == (T, T)
            and all(recorded[replay].shape == recorded[output].shape for replay, output in replays.items())
        )
    if not fits:
        raise BundleError(f"{layout.SELF_TEST}: not a recording of this network's outputs; export the bundle again")


def _compare(part: str, output: str, got: NDArray[Any], expected: NDArray[Any]) -> Check:
    _check_shape(part, output, got, expected)
    return Check(f"{part}: {output}", float(np.abs(got - expected).max()), LIMITS[output])


def _compare_means(
    part: str, output: str, got: NDArray[Any], expected: NDArray[Any], share: float, measure: str
) -> Check:
    """For int8, where a single value may lie far off: a snippet at the masking threshold may fall either way."""
    _check_shape(part, output, got, expected)
    limit = share * float(expected.std())
    return Check(f"{part}: {output}", float(np.abs(got - expected).mean()), limit, measure)


def _compare_directions(part: str, output: str, got: NDArray[Any], expected: NDArray[Any]) -> Check:
    _check_shape(part, output, got, expected)
    lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)  # (K,)
    cosines = (got * expected).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return Check(f"{part}: {output}", float(1 - cosines.min()), INT8_COSINE, "1 - cosine")


def _check_shape(part: str, output: str, got: NDArray[Any], expected: NDArray[Any]) -> None:
    if got.shape != expected.shape:
        raise BundleError(f"{part}: {output} of shape {got.shape}, recorded {expected.shape}; export the bundle again")
