"""Replaying a bundle's recorded inputs and outputs on the machine at hand."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_runtime.arrays import unpack_arrays
from stale_runtime.bundle import Bundle
from stale_runtime.errors import BundleError
from stale_runtime.localizer import BACKENDS, LONGEST, SHORTEST, EncodedPrompts, Localizer, Settings
from stale_runtime.text_encoder import TextEncoder

SELFTEST_NAME = "selftest.npz"
LIMITS = {"embeddings": 1e-3, "queries": 1e-3, "cas_logits": 2e-3, "action_masks": 1e-4}
"""Largest absolute deviations from the recording, with room for another CPU's arithmetic."""
_ARRAYS = {
    "names": ("U", 1),
    "features": ("f", 2),
    "embeddings": ("f", 2),
    "queries": ("f", 2),
    "cas_logits": ("f", 2),
    "action_masks": ("f", 2),
}
"""Kind of type and number of axes of each recorded array."""


class Check(NamedTuple):
    """One thing that was tested."""

    what: str
    deviation: float | None
    """Largest absolute deviation from the recording; None where bytes were compared."""
    limit: float | None

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
    recorded = unpack_arrays(bundle.read(SELFTEST_NAME), SELFTEST_NAME)
    _check_recording(recorded, bundle.manifest.channels, bundle.manifest.heads)
    vectors = TextEncoder(bundle).encode(recorded["names"].tolist())
    for output, value in zip(vectors._fields, vectors, strict=True):
        yield _compare("text encoder", output, value, recorded[output])
    prompts = EncodedPrompts(tuple(recorded["names"].tolist()), recorded["embeddings"], recorded["queries"])
    for backend in BACKENDS:
        localizer = Localizer(bundle, Settings(backend=backend, length=recorded["action_masks"].shape[-1]))
        outputs = localizer.outputs(recorded["features"], prompts)
        for output, value in zip(outputs._fields, outputs, strict=True):
            yield _compare(backend, output, value, recorded[output])


def _check_recording(recorded: Mapping[str, NDArray[Any]], channels: int, heads: int) -> None:
    """Make sure that the arrays are there, of the right types, and fit one another."""
    kinds = {name: (array.dtype.kind, array.ndim) for name, array in recorded.items()}
    fits = kinds == _ARRAYS
    if fits:
        K, T = len(recorded["names"]), recorded["action_masks"].shape[1]
        fits = (
            K > 0
            and SHORTEST <= T <= LONGEST
            and recorded["features"].shape[1] == channels
            and recorded["embeddings"].shape == (K, channels)
            and recorded["queries"].shape == (K, heads * channels)
            and recorded["cas_logits"].shape == (K + 1, T)
            and recorded["action_masks"].shape == (T, T)
        )
    if not fits:
        raise BundleError(f"{SELFTEST_NAME}: not a recording of this network's outputs; export the bundle again")


def _compare(part: str, output: str, got: NDArray[Any], expected: NDArray[Any]) -> Check:
    if got.shape != expected.shape:
        raise BundleError(f"{part}: {output} of shape {got.shape}, recorded {expected.shape}; export the bundle again")
    return Check(f"{part}: {output}", float(np.abs(got - expected).max()), LIMITS[output])
