"""How a linear layer is computed in 8-bit integers.

Weights are symmetric with a step for each output channel, activations bytes with one step and a zero point.

CPUs without VNNI multiply bytes with ``vpmaddubsw``, which adds two neighbouring products in 16 bits and saturates:
255·127·2 is more than 32767. With weights of 7 bits, 255·64·2 = 32640, it cannot. So that is what is exported unless
the target is known to have VNNI.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stale_runtime.errors import ExportError

PORTABLE_BITS, VNNI_BITS = 7, 8
"""Bits of a weight on any CPU, and where products cannot saturate."""
TARGETS = {"portable": PORTABLE_BITS, "vnni": VNNI_BITS}
"""CPUs to export for, and the most bits of a weight that are exact there."""
_TINY = float(np.finfo(np.float32).tiny)


def bits_for(target: str, asked: int | None = None) -> int:
    """Bits of a weight on a target of ``TARGETS``: those asked for, or as many as it takes.

    Raises:
        ExportError: on the target, products with such weights saturate.
    """
    most = TARGETS[target]
    if asked is not None and asked > most:
        raise ExportError(
            f"--weight-bits {asked} with --target {target}: products of bytes and such weights saturate on CPUs "
            f"without VNNI; give --weight-bits {most}, or --target vnni"
        )
    return asked or most


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """What is common to all ways."""

    weight_bits: int = PORTABLE_BITS

    def quantize(self, weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Round weights to integers: (M, N) -> (M, N) and the step of each column (N,)."""
        most = 2 ** (self.weight_bits - 1) - 1
        step = (np.abs(weights).max(axis=0) / most).clip(min=_TINY).astype(np.float32)
        return np.rint(weights / step).clip(-most, most).astype(np.int8), step


@dataclass(frozen=True, kw_only=True)
class DynamicScheme(Scheme):
    """The range of the activations is taken from each video as it runs."""


@dataclass(frozen=True, kw_only=True)
class StaticScheme(Scheme):
    """The range of the activations is known beforehand, from calibration."""

    scale: float
    """Of a byte's step."""
    zero_point: int
    """The byte that stands for 0."""

    @classmethod
    def over(cls, low: float, high: float, weight_bits: int) -> "StaticScheme":
        """The scheme for activations between two values.

        Raises:
            ValueError: they are not finite.
        """
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"activations from {low} to {high}")
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32(max((high - low) / 255, _TINY)))
        return cls(weight_bits=weight_bits, scale=scale, zero_point=int(np.clip(round(-low / scale), 0, 255)))
