"""The action masks of a video, as far as a decoder reads them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stale_runtime.decoding.mask_interpolation import mask_row_positions
from stale_runtime.segments import FloatArray


class ActionMasks(Protocol):
    """The masks (T, T) that the snippets of a video propose, row t that of snippet t."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(T,), True for snippets that representation masking keeps; at least one."""
        ...

    @property
    def kept_mask(self) -> FloatArray:
        """(T,) in [0, 1], the mean of the masks that the kept snippets propose."""
        ...

    def rows(self, snippets: NDArray[np.intp]) -> FloatArray:
        """The masks (L, T) in [0, 1] that some snippets (L,) propose."""
        ...


@dataclass(frozen=True)
class FullMasks:
    """Masks that were all computed."""

    masks: FloatArray
    """(T, T) in [0, 1]"""

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """See ``ActionMasks``. Source: design section 3, step 4."""
        means = self.masks.mean(axis=1)  # (T,)
        return np.asarray(means >= min(means.mean(), means.max()))  # the mean of equal numbers may round to above them

    @cached_property
    def kept_mask(self) -> FloatArray:
        """See ``ActionMasks``."""
        return np.asarray(self.kept @ self.masks / self.kept.sum())

    def rows(self, snippets: NDArray[np.intp]) -> FloatArray:
        """See ``ActionMasks``."""
        return self.masks[snippets]


@dataclass(frozen=True, kw_only=True)
class SparseMasks:
    """Masks of which the network has computed what decoders read; the rows follow from those of the trained length."""

    kept: NDArray[np.bool_]
    """(T,), see ``ActionMasks``."""
    kept_mask: FloatArray
    """(T,), see ``ActionMasks``."""
    logits: NDArray[np.float32] | None
    """(T0, T): the masks of the T0 trained rows before the sigmoid; None if nobody wants ``rows``."""

    def rows(self, snippets: NDArray[np.intp]) -> FloatArray:
        """See ``ActionMasks``.

        Raises:
            ValueError: the logits are missing.
        """
        if self.logits is None:
            raise ValueError("rows of masks whose logits were not asked for")
        T0, T = self.logits.shape
        lower, share = mask_row_positions(T0, T)
        lower, share = lower[snippets], share[snippets, None]
        between = (1 - share) * self.logits[lower] + share * self.logits[lower + 1]  # (L, T)
        with np.errstate(over="ignore"):  # for logits below -88 the mask is 0
            return np.asarray(1 / (1 + np.exp(-between)))


def all_rows(masks: ActionMasks) -> FloatArray:
    """All masks of a video, (T, T)."""
    return masks.rows(np.arange(len(masks.kept)))
