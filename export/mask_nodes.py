"""How many nodes a network needs in each gap of its mask kernel, so that the means of all rows follow from theirs."""

import numpy as np
import torch
from numpy.typing import NDArray

from stale_export.parity import draw_features
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.decoding.mask_interpolation import interpolate_masks, most_exact_rows

CANDIDATES = (4, 6, 8, 12)
"""Numbers of nodes to try. The more a network's masks change from one trained row to the next, the more it needs."""
LIMIT = 1e-6
"""Largest accepted deviation of a row's mean; a tenth of what the comparison with the network accepts."""
_VIDEOS = 4
_ROWS_A_GAP = 16
"""Rows between two trained ones at which means are compared, if T allows so many."""


def choose_mask_nodes(network: Stale) -> int | None:
    """The fewest nodes a gap that suffice for a network in evaluation mode.

    Returns:
        One of ``CANDIDATES``; None if none of them suffices, so that all rows have to be computed.
    """
    T0 = network.config.temporal_scale
    videos = draw_features(network, _VIDEOS, T0)  # (B, T0, C)
    logits = _mask_logits(network, videos)  # (B, T0, T0)
    length = min(_ROWS_A_GAP * T0, layout.LONGEST)
    expected = _means_of_rows(logits, length, None)
    for nodes in CANDIDATES:
        if length <= most_exact_rows(T0, nodes):
            continue
        if np.abs(_means_of_rows(logits, length, nodes) - expected).max() <= LIMIT:
            return nodes
    return None


def _mask_logits(network: Stale, videos: torch.Tensor) -> NDArray[np.float64]:
    """Masks of the trained rows before the sigmoid: features (B, T0, C) -> (B, T0, T0)."""
    localizer = network.mask_localizer
    with torch.no_grad():
        snippets = network.snippet_embedding(videos, videos)
        hidden = localizer.hidden(snippets.transpose(1, 2)).relu()  # (B, M, T0)
        return np.asarray((localizer.kernel.double() @ hidden.double()).numpy())


def _means_of_rows(logits: NDArray[np.float64], length: int, nodes: int | None) -> NDArray[np.float64]:
    """The mean of each of T rows of the masks, from logits (B, T0, L) of the trained rows: (B, T)."""
    rows, lift = interpolate_masks(logits.shape[1], length, nodes)
    masks = 1 / (1 + np.exp(-(rows.astype(np.float64) @ logits)))  # (B, P, L)
    return np.asarray(masks.mean(axis=2) @ lift.T.astype(np.float64))
