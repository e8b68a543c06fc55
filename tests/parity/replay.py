"""Follow a recording of the original's soft-NMS through its ties.

The original keeps proposals in a set of strings. Which of several equally scored proposals its soft-NMS takes first
therefore changes with every run of Python, and with it most of what follows. A recording can only be reproduced by
making the recorded choice at each tie. ``follow`` does that, and fails where the recorded choice is not among the best.
"""

import numpy as np

from stale_runtime.decoding.proposals import Proposals
from stale_runtime.decoding.upstream_decoder import DECAY, RAISE, upstream_overlap
from stale_runtime.detections import Detection

TIE = 2e-5
"""The relative difference up to which scores count as equal, since logits, and so scores, differ by 1e-5."""
FAINT = 1e-300
"""Scores below this are close to the smallest float, and are not followed."""


class NotFollowedError(AssertionError):
    """The recording takes a proposal that is not among the best."""


def follow(proposals: Proposals, recorded: list[Detection], duration_s: float, label: str) -> list[Detection]:
    """Detections in the order of the recorded scores, without those below ``FAINT``."""
    segments = np.minimum(proposals.segments, 1) * duration_s
    scores = proposals.scores.astype(np.float64)
    overlap = upstream_overlap(proposals.segments)
    starts, ends = proposals.segments.T
    apart = (starts[:, None] > ends) | (starts > ends[:, None])
    factors = np.where(apart, 1, np.exp(-DECAY * overlap**2) / RAISE)
    left = list(recorded)
    taken: list[Detection] = []
    for _ in range(len(scores) - 1):
        best = scores.max()
        if best < FAINT:
            break
        tied = np.flatnonzero(scores >= best * (1 - TIE))
        matches = [(int(n), row) for n in tied for row in left if _is_recorded_as(segments[n], float(scores[n]), row)]
        if not matches:
            raise NotFollowedError(f"step {len(taken)}: best {segments[tied[0]]} at {best} is not in the recording")
        n, row = min(matches, key=lambda match: abs(scores[match[0]] / match[1].score - 1))
        left.remove(row)
        taken.append(Detection(label, float(segments[n, 0]), float(segments[n, 1]), float(scores[n])))
        scores *= factors[n]
        scores[n] = -1
    return sorted(taken, key=lambda row: -row.score)


def _is_recorded_as(segment: np.ndarray, score: float, row: Detection) -> bool:
    return bool(abs(segment - (row.start, row.end)).max() < 1e-3) and abs(score - row.score) <= min(1e-4, 1e-3 * score)
