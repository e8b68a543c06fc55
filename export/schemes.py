"""How a linear layer is computed in 8-bit integers.

Weights are quantized symmetrically, with one step for each output channel. Activations become unsigned bytes, with one
step and one zero point for the whole tensor.

CPUs without VNNI multiply bytes with the instruction ``vpmaddubsw``. It adds two neighbouring products in 16 bits, and
saturates if the sum exceeds 32767: with weights of 8 bits the sum can be 255·127·2 = 64770. With weights of 7 bits
it is at most 255·63·2 = 32130, so 7 bits are exported unless the target is known to have VNNI.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stale_runtime.errors import ExportError

PORTABLE_BITS, VNNI_BITS = 7, 8
"""Bits of a weight that are exact on any CPU, and on CPUs with VNNI, where products cannot saturate."""
TARGETS = {"portable": PORTABLE_BITS, "vnni": VNNI_BITS}
"""CPUs to export for, and the most bits of a weight that are exact on them."""
TINY = float(np.finfo(np.float32).tiny)
"""The smallest step, for numbers that are all zero."""


def bits_for(target: str, asked: int | None = None) -> int:
    """Bits of a weight on a target of ``TARGETS``: the number asked for, or the most that are exact.

    Raises:
        ExportError: products with that many bits saturate on the target.
    """
    most = TARGETS[target]
    if asked is not None and asked > most:
        raise ExportError(
            f"--weight-bits {asked} with --target {target}: products with such weights saturate on CPUs without VNNI; "
            f"give --weight-bits {most}, or --target vnni"
        )
    return asked or most


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Quantization of a layer's weights, which every scheme has in common."""

    weight_bits: int = PORTABLE_BITS
    """Bits of a weight, sign included."""

    @property
    def most(self) -> int:
        """The largest integer that a weight is rounded to."""
        return int(2 ** (self.weight_bits - 1) - 1)

    def quantize(self, weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Round weights to integers: (M, N) -> (M, N), and the step of each column (N,)."""
        step = (np.abs(weights).max(axis=0) / self.most).clip(min=TINY).astype(np.float32)
        return np.rint(weights / step).clip(-self.most, self.most).astype(np.int8), step


@dataclass(frozen=True, kw_only=True)
class DynamicScheme(Scheme):
    """The range of the activations is computed from each video while the graph runs."""


@dataclass(frozen=True, kw_only=True)
class VideoScheme(Scheme):
    """Like ``DynamicScheme``, for activations that belong to one video, even where the graph gets several at once.

    Unlike ``DynamicScheme`` it gives the same integers on every CPU.
    """


@dataclass(frozen=True, kw_only=True)
class RowScheme(Scheme):
    """The range of each row of activations is computed while the graph runs.

    So a row's result does not depend on the rows beside it: an image gets the same embedding in any batch.
    """

    lowest: float | None = None
    """The lowest number that a row can contain, a little below 0; None if rows reach as far below 0 as above."""

    @property
    def zero_point(self) -> int:
        """The byte that stands for 0."""
        return 128 if self.lowest is None else 16

    @property
    def smallest_step(self) -> float:
        """The smallest step between two neighbouring bytes, with which the lowest number still has a byte."""
        return TINY if self.lowest is None else -self.lowest / self.zero_point


@dataclass(frozen=True, kw_only=True)
class StaticScheme(Scheme):
    """The range of the activations is fixed, taken from calibration videos."""

    scale: float
    """Step between two neighbouring bytes."""
    zero_point: int
    """The byte that stands for 0."""

    @classmethod
    def over(cls, low: float, high: float, weight_bits: int) -> "StaticScheme":
        """The scheme for activations between two values.

        Raises:
            ValueError: the values are not finite.
        """
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"activations from {low} to {high}, expected finite numbers")
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32(max((high - low) / 255, TINY)))
        return cls(weight_bits=weight_bits, scale=scale, zero_point=int(np.clip(round(-low / scale), 0, 255)))
