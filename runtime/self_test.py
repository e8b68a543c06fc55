"""Replaying a bundle's recorded inputs and outputs on the machine at hand."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stale_runtime.arrays import unpack_arrays
from stale_runtime.bundle import Bundle
from stale_runtime.errors import BundleError
from stale_runtime.localizer import BACKENDS, EncodedPrompts, Localizer, Settings
from stale_runtime.text_encoder import TextEncoder

SELFTEST_NAME = "selftest.npz"
LIMITS = {"embeddings": 1e-3, "cas_logits": 2e-3, "action_masks": 1e-4}
"""Largest absolute deviations from the recording, with room for another CPU's arithmetic."""
_ARRAYS = {"texts", "features", "embeddings", "cas_logits", "action_masks"}


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
    if recorded.keys() != _ARRAYS:
        raise BundleError(f"{SELFTEST_NAME}: expected {', '.join(sorted(_ARRAYS))}; export the bundle again")
    embeddings = TextEncoder(bundle).encode(recorded["texts"].tolist())
    yield _compare("text encoder", "embeddings", embeddings, recorded["embeddings"])
    prompts = EncodedPrompts(tuple(recorded["texts"].tolist()), recorded["embeddings"])
    for backend in BACKENDS:
        localizer = Localizer(bundle, Settings(backend=backend, length=recorded["action_masks"].shape[-1]))
        outputs = localizer.outputs(recorded["features"], prompts)
        for output, value in zip(outputs._fields, outputs, strict=True):
            yield _compare(backend, output, value, recorded[output])


def _compare(part: str, output: str, got: np.ndarray, expected: np.ndarray) -> Check:
    if got.shape != expected.shape:
        raise BundleError(f"{part}: {output} of shape {got.shape}, recorded {expected.shape}; export the bundle again")
    return Check(f"{part}: {output}", float(np.abs(got - expected).max()), LIMITS[output])
