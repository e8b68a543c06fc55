"""Videos of scenes with actions in them, and a network that sees the actions."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.inference.forward_pass import Outputs

APPEARANCE = 24
"""Channels that show which scene a snippet is of."""
POSITION = 1e-4
"""What a snippet adds to the channel that says where in the video it is."""
Action = tuple[int, int, int]
"""Class, first snippet and snippet after the last."""


def draw_scenes(lengths: Sequence[int], *, seed: int = 0) -> tuple[NDArray[np.float32], list[int]]:
    """A video (N, ``APPEARANCE``) of scenes that look different, and where one meets the next."""
    dice = np.random.default_rng(seed)
    looks = np.linalg.qr(dice.standard_normal((APPEARANCE, APPEARANCE)))[0]
    order = np.arange(len(lengths)) % APPEARANCE  # orthogonal to the scenes around
    scenes = 10 * looks[order].repeat(lengths, axis=0)
    noisy = scenes + 0.8 * dice.standard_normal(scenes.shape)
    return noisy.astype(np.float32), np.cumsum(lengths)[:-1].tolist()


def plant(scenes: NDArray[np.float32], actions: Sequence[Action], classes: int) -> NDArray[np.float32]:
    """Add K channels that show actions, and one that shows positions: (N, K + 1 + ``APPEARANCE``)."""
    N = len(scenes)
    marks = np.zeros((N, classes), np.float32)
    for label, start, end in actions:
        marks[start:end, label] = 1
    positions = (POSITION * np.arange(N, dtype=np.float64)[:, None]).astype(np.float32)
    return np.hstack([marks, positions, scenes])


class SeeingNetwork:
    """Stands for the network: its outputs are what ``plant`` has planted. It records which windows it gets."""

    def __init__(self, classes: int) -> None:
        """Args: classes: K."""
        self._classes = classes
        self.windows: list[tuple[float, float]] = []
        self.batches: list[tuple[int, int]] = []
        """Windows and snippets of each call."""

    def __call__(self, batch: NDArray[np.float32]) -> Iterator[Outputs]:
        """The outputs for windows (B, T, C)."""
        B, T, _ = batch.shape
        self.batches.append((B, T))
        for window in batch:
            marks = window[:, : self._classes].T  # (K, T)
            self._record(window[:, self._classes].astype(np.float64) / POSITION)
            surest = marks.max(axis=0)  # (T,)
            logits = np.vstack([12 * marks, np.full((1, T), 6.0)]).astype(np.float32)
            yield Outputs(logits, FullMasks(np.outer(surest, surest)))

    def _record(self, positions: NDArray[np.float64]) -> None:
        """Find out which window this is from its positions (T,), which are at the middles of T equal parts."""
        T = len(positions)
        if positions[0] == positions[-1]:  # one snippet
            self.windows.append((positions[0], positions[0] + 1))
            return
        part = (positions[3 * T // 4] - positions[T // 4]) / (3 * T // 4 - T // 4)
        middle = positions[T // 4] + (T / 2 - T // 4 - 0.5) * part + 0.5
        self.windows.append((middle - T * part / 2, middle + T * part / 2))
