"""Replaying a bundle's recorded inputs and outputs on this machine."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import unpack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import Manifest
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.errors import COPY_AGAIN, BundleError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, LocalizerBackend, backend_problem
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inference.settings import Settings
from stale_runtime.inference.text_encoder import TextEncoder
from stale_runtime.video.vision_encoder import VISION_FILES, VisionEncoder

LIMITS = {layout.EMBEDDINGS: 1e-3, layout.QUERIES: 1e-3, layout.CAS_LOGITS: 2e-3, layout.ACTION_MASKS: 1e-4}
"""Largest absolute deviations from the recording, with room for another CPU's arithmetic."""
INT8_SHARE = 0.1
"""Mean deviation of an int8 output from the network's, as a share of the output's standard deviation. Measured: 0.006
to 0.04 on ten networks; with the scale of a layer's weights 1.5 times as large, 0.16 to 0.8 if that layer matters."""
REPLAY_SHARE = 0.005
"""Mean deviation of an int8 output from what the same graph gave on the machine that exported it, as a share of the
output's standard deviation. Integers are exact, so it should be almost zero: up to 8e-5 was measured on emulated CPUs,
with saturating 8-bit weights 0.02 (masks) and 0.05 (class activations)."""
FARTHER = 1.5
"""How many times as far from the network as at the export an int8 output may be; and how far from the export a
dynamically quantized one may be, in the same unit. Where ONNX Runtime quantizes each row of activations by itself (on
Arm with SME), an output moves by 0.2 to 1.3 of that distance, but is as near to the network (0.85 to 1.14 times as far,
on seven networks). Saturating weights took one of the outputs 2.7 to 18 times as far."""
INT8_COSINE = 0.03
"""How far the cosine between an int8 encoder's output and the network's may be from 1."""
KEPT_MASK_LIMITS = {"fp32": 1e-4, "int8": 1e-4, "bf16": 0.01}
"""How far the mean mask of the kept snippets may be from that of their rows, which it is the mean of."""
IMAGE_COSINE = 1e-4
"""How far the cosine between a float image encoder's output and the recording may be from 1; and that between an int8
one's and what the same graph gave on the machine that exported it."""
VISION_REPLAY = f"int8.{layout.IMAGE_EMBEDDINGS}"
"""Name of the recorded array with the int8 image encoder's output on the machine that exported it."""
_FLOAT = np.dtype(np.float32)
_ARRAYS: dict[str, tuple[object, int]] = {
    "names": ("U", 1),
    "features": (_FLOAT, 2),
    layout.EMBEDDINGS: (_FLOAT, 2),
    layout.QUERIES: (_FLOAT, 2),
    layout.CAS_LOGITS: (_FLOAT, 2),
    layout.ACTION_MASKS: (_FLOAT, 2),
}
"""Type and number of axes of each recorded array."""
_VISION_ARRAYS: dict[str, tuple[object, int]] = {
    layout.IMAGES: (np.dtype(np.uint8), 4),
    layout.IMAGE_EMBEDDINGS: (_FLOAT, 2),
}
"""The same for a bundle with a vision tower."""


class Check(NamedTuple):
    """The result of one test."""

    what: str
    deviation: float | None
    """Deviation from the recording; None if bytes were compared."""
    limit: float | None
    measure: str = "deviation"
    """How the deviation is measured; ``deviation`` is the largest absolute one."""

    @property
    def passed(self) -> bool:
        """Whether the deviation is within the limit."""
        return self.deviation is None or self.limit is None or self.deviation <= self.limit


def self_test(bundle: Bundle) -> Iterator[Check]:
    """Read every file of a bundle and run every graph on recorded inputs.

    Yields:
        The result of each test, passed or not.

    Raises:
        BundleError: a file is broken.
    """
    for name in bundle.verify():
        yield Check(name, None, None)
    manifest = bundle.manifest
    backends = [backend for backend in LOCALIZER_BACKENDS.values() if backend_problem(backend, manifest) is None]
    if not backends:
        raise BundleError(
            f"{bundle.path}: the bundle has no graph for any of {', '.join(LOCALIZER_BACKENDS)}; {COPY_AGAIN}"
        )
    recorded = unpack_arrays(bundle.read(layout.SELF_TEST), layout.SELF_TEST)
    _check_recording(recorded, manifest, [backend for backend in backends if _is_replayed(backend, manifest)])
    yield from _check_text_encoder(bundle, recorded)
    yield from _check_vision(bundle, recorded)
    for backend in backends:
        yield from _check_backend(backend, bundle, recorded)


def replay_name(backend: str, output: str) -> str:
    """Name of the recorded array with an int8 graph's output on the machine that exported it."""
    return f"{backend}.{output}"


def compare_int8(
    part: str,
    output: str,
    got: NDArray[Any],
    network: NDArray[Any],
    exported: NDArray[Any],
    *,
    rounds_alike: bool,
) -> Iterator[Check]:
    """Compare an int8 output with the network's, and with the same graph's on the machine that exported it.

    Args:
        part: name of the graph.
        output: name of the output.
        got: the output on this machine.
        network: the network's.
        exported: the graph's on the machine that exported it.
        rounds_alike: whether every CPU quantizes the activations in the same way, so that equal integers can be
            expected.

    Yields:
        Two checks.

    Raises:
        BundleError: the outputs have different shapes.
    """
    farther = FARTHER * float(np.abs(exported - network).mean())
    exact, most = REPLAY_SHARE * _spread(network), INT8_SHARE * _spread(network)
    yield _compare_means(part, output, got, network, min(most, max(exact, farther)))
    limit = exact if rounds_alike else max(exact, farther)
    yield _compare_means(part, output, got, exported, limit, "mean deviation from the export")


def _is_quantized(file: str, manifest: Manifest) -> bool:
    return any(record.file == file for record in manifest.quantization)


def _is_replayed(backend: LocalizerBackend, manifest: Manifest) -> bool:
    """Whether the bundle also contains this backend's outputs on the machine that exported it."""
    return _is_quantized(backend.file, manifest) and backend.engine == "onnxruntime"


def _is_static(backend: LocalizerBackend, bundle: Bundle) -> bool:
    """Whether the range of the activations is part of the graph, instead of computed while it runs."""
    return any(record.file == backend.file and record.kind == "static" for record in bundle.manifest.quantization)


def _check_recording(
    recorded: Mapping[str, NDArray[Any]], manifest: Manifest, replayed: Sequence[LocalizerBackend]
) -> None:
    """Make sure that no array is missing, and that their types and shapes fit."""
    kinds = {name: ("U" if array.dtype.kind == "U" else array.dtype, array.ndim) for name, array in recorded.items()}
    replays = {replay_name(backend.name, output): output for backend in replayed for output in layout.FULL_MASK_OUTPUTS}
    vision = _VISION_ARRAYS if manifest.vision is not None else {}
    if layout.VISION_ENCODER_INT8 in manifest.files:
        vision = vision | {VISION_REPLAY: (_FLOAT, 2)}
    fits = kinds == _ARRAYS | {replay: _ARRAYS[output] for replay, output in replays.items()} | vision
    if fits:
        K, T, C = len(recorded["names"]), recorded[layout.ACTION_MASKS].shape[1], manifest.channels
        fits = (
            K > 0
            and layout.SHORTEST <= T <= layout.LONGEST
            and recorded["features"].shape[1] == C
            and recorded[layout.EMBEDDINGS].shape == (K, C)
            and recorded[layout.QUERIES].shape == (K, manifest.heads * C)
            and recorded[layout.CAS_LOGITS].shape == (K + 1, T)
            and recorded[layout.ACTION_MASKS].shape == (T, T)
            and all(recorded[replay].shape == recorded[output].shape for replay, output in replays.items())
            and all(
                recorded[name].shape == (len(recorded[layout.IMAGES]), C) for name in vision if name != layout.IMAGES
            )
        )
    if not fits:
        raise BundleError(f"{layout.SELF_TEST}: not a recording of this network's outputs; {COPY_AGAIN}")


def _check_text_encoder(bundle: Bundle, recorded: Mapping[str, NDArray[Any]]) -> Iterator[Check]:
    compare = _compare_directions if _is_quantized(layout.TEXT_ENCODER, bundle.manifest) else _compare
    vectors = TextEncoder(bundle).encode(recorded["names"].tolist())
    for output, value in zip(layout.TEXT_ENCODER_OUTPUTS, vectors, strict=True):
        yield compare("text encoder", output, value, recorded[output])


def _check_vision(bundle: Bundle, recorded: Mapping[str, NDArray[Any]]) -> Iterator[Check]:
    spec = bundle.manifest.vision
    if spec is None:
        return
    images, S = recorded[layout.IMAGES], spec.image_size
    if not len(images) or images.shape[1:] != (S, S, 3):
        raise BundleError(f"{layout.SELF_TEST}: not a recording of this network's outputs; {COPY_AGAIN}")
    for precision, file in VISION_FILES.items():
        if file not in bundle.manifest.files:
            continue
        part, output = f"vision tower in {precision}", layout.IMAGE_EMBEDDINGS
        embeddings = VisionEncoder.open(bundle, precision).embed(images)
        coarse = precision == "int8"
        limit = INT8_COSINE if coarse else IMAGE_COSINE
        yield _compare_directions(part, output, embeddings, recorded[output], limit)
        if coarse:
            exported, measure = recorded[VISION_REPLAY], "1 - cosine with the export"
            yield _compare_directions(part, output, embeddings, exported, IMAGE_COSINE, measure)


def _check_backend(backend: LocalizerBackend, bundle: Bundle, recorded: Mapping[str, NDArray[Any]]) -> Iterator[Check]:
    settings = Settings(backend=backend.name, length=recorded[layout.ACTION_MASKS].shape[-1], cache=False)
    names = tuple(recorded["names"].tolist())
    prompts = EncodedPrompts(names, recorded[layout.EMBEDDINGS], recorded[layout.QUERIES])
    cas_logits, masks, _ = Localizer(bundle, settings).outputs(recorded["features"], prompts)
    outputs = cas_logits, all_rows(masks)
    coarse = backend.precision == "bf16" or _is_quantized(backend.file, bundle.manifest)
    for output, value in zip(layout.FULL_MASK_OUTPUTS, outputs, strict=True):
        if not coarse:
            yield _compare(backend.name, output, value, recorded[output])
        elif _is_replayed(backend, bundle.manifest):
            exported = recorded[replay_name(backend.name, output)]
            yield from compare_int8(
                backend.name, output, value, recorded[output], exported, rounds_alike=_is_static(backend, bundle)
            )
        else:
            yield _compare_means(backend.name, output, value, recorded[output], INT8_SHARE * _spread(recorded[output]))
    off = float(np.abs(masks.kept_mask - outputs[1][masks.kept].mean(axis=0)).max())
    measure = "deviation from the rows' mean"
    yield Check(f"{backend.name}: {layout.KEPT_MASK}", off, KEPT_MASK_LIMITS[backend.precision], measure)


def _compare(part: str, output: str, got: NDArray[Any], expected: NDArray[Any]) -> Check:
    _check_shape(part, output, got, expected)
    return Check(f"{part}: {output}", float(np.abs(got - expected).max()), LIMITS[output])


def _compare_means(
    part: str,
    output: str,
    got: NDArray[Any],
    expected: NDArray[Any],
    limit: float,
    measure: str = "mean deviation",
) -> Check:
    """Compare means, because single int8 values may be far off: rounding decides for snippets near the threshold."""
    _check_shape(part, output, got, expected)
    return Check(f"{part}: {output}", float(np.abs(got - expected).mean()), limit, measure)


def _compare_directions(
    part: str,
    output: str,
    got: NDArray[Any],
    expected: NDArray[Any],
    limit: float = INT8_COSINE,
    measure: str = "1 - cosine",
) -> Check:
    _check_shape(part, output, got, expected)
    lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)  # (K,)
    cosines = (got * expected).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return Check(f"{part}: {output}", float(1 - cosines.min()), limit, measure)


def _check_shape(part: str, output: str, got: NDArray[Any], expected: NDArray[Any]) -> None:
    if got.shape != expected.shape:
        raise BundleError(f"{part}: {output} has shape {got.shape}, expected {expected.shape}; {COPY_AGAIN}")


def _spread(output: NDArray[Any]) -> float:
    return float(output.std())
