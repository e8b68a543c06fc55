"""What the approximate attention among snippets is expanded around, and the directions in which it is expanded."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stale_export.folding import FoldedAttention, Matrix

_LEAST_VARIANCE = 0.01
"""Of a direction, as a share of the mean over all directions: so many videos say nothing of a smaller one."""


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """An approximation A_h ≈ U_h·V_h of the folded query matrices of all heads, by r directions each."""

    centre: Matrix
    """(C,), a typical snippet. It changes nothing but the rounding."""
    left: Matrix
    """(H, C, r), the matrices U."""
    right: Matrix
    """(H, r, C), the matrices V."""

    @property
    def directions(self) -> int:
        """The number r."""
        return int(self.left.shape[2])

    def rest_of(self, block: FoldedAttention) -> Matrix:
        """What the directions leave of the matrices A: (H, C, C)."""
        found = self.left.astype(np.float64) @ self.right
        return (_by_head(block) - found).astype(np.float32)


class Directions:
    """The directions of each head's folded query matrix, the strongest first.

    How strong a direction is depends on how much the snippets of a video differ in it. So these are the singular
    directions of R·A·R, where R² is the covariance of the deviations of snippets from the mean of their video.
    """

    def __init__(self, block: FoldedAttention, videos: Iterable[Matrix]) -> None:
        """Args: block: the attention among snippets; videos: features (S, C) of each."""
        videos = list(videos)
        self._block = block
        self._centre = np.concatenate(videos).mean(axis=0, dtype=np.float64)
        deviations = np.concatenate([video - video.mean(axis=0) for video in videos]).astype(np.float64)
        covariance = deviations.T @ deviations / len(deviations)  # (C, C)
        variances, axes = np.linalg.eigh(covariance)
        variances = np.maximum(variances, max(_LEAST_VARIANCE * variances.mean(), float(np.finfo(np.float32).tiny)))
        self._root = axes * np.sqrt(variances) @ axes.T
        self._inverse = axes / np.sqrt(variances) @ axes.T

    def expansion(self, directions: int) -> Expansion:
        """The expansion in so many of the strongest directions, up to C."""
        left, strengths, right = self._decomposed
        r = directions
        return Expansion(
            centre=self._centre.astype(np.float32),
            left=(self._inverse @ (left[:, :, :r] * strengths[:, None, :r])).astype(np.float32),  # (H, C, r)
            right=(right[:, :r] @ self._inverse).astype(np.float32),  # (H, r, C)
        )

    @cached_property
    def _decomposed(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(H, C, C), (H, C) and (H, C, C)"""
        left, strengths, right = np.linalg.svd(self._root @ _by_head(self._block) @ self._root)
        return left, strengths, right


def _by_head(block: FoldedAttention) -> NDArray[np.float64]:
    """The folded query matrices, (H, C, C)."""
    C = len(block.query)
    return block.query.reshape(C, block.heads, C).transpose(1, 0, 2).astype(np.float64)
