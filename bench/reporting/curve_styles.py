"""How curves and points look, the same in an image and on a page.

A curve has one of six colours and one of five dashes, so that thirty curves can be told apart, and none by its colour
alone. The colours stay apart for people who see no difference between red and green, or between blue and yellow.
"""

import math

LIGHT = ("#1b1f24", "#0a5fae", "#d55e00", "#12a184", "#8a2f74", "#7a5c00")
"""On white; each has a contrast of at least 3. After Okabe and Ito, "Color Universal Design", 2008, but darker."""
DARK = ("#ffffff", "#3d9be8", "#ff7a33", "#35d0a8", "#c565b0", "#f3dc6b")
"""On black."""
DASHES = ((), (6, 2), (2, 2), (8, 2, 2, 2), (12, 3))
"""Lengths of strokes and gaps; none for a solid line."""
LEVEL_DASH = (1, 3)
"""Of lines that curves are compared with; no curve has it."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""Marks of points, in matplotlib's letters; each stands for a length."""


def colour_number(style: int) -> int:
    """Which colour a curve has."""
    return style % len(LIGHT)


def dash_number(style: int) -> int:
    """Which dashes a curve has; another order than that of the colours, so that pairs repeat late."""
    return style % len(DASHES)


def mark_outline(mark: int, radius: float) -> tuple[tuple[float, float], ...]:
    """The corners of a mark around (0, 0), y downwards, for a page."""
    corners, turn, inner = _SHAPES[mark % len(_SHAPES)]
    spikes = range(corners if inner is None else 2 * corners)
    angles = [turn + 2 * math.pi * n / len(spikes) for n in spikes]
    radii = [radius if inner is None or n % 2 == 0 else inner * radius for n in spikes]
    return tuple((r * math.sin(angle), -r * math.cos(angle)) for r, angle in zip(radii, angles, strict=True))


_SHAPES: tuple[tuple[int, float, float | None], ...] = (
    (24, 0.0, None), (4, math.pi / 4, None), (3, 0.0, None), (4, 0.0, None), (3, math.pi, None), (4, 0.0, 0.4),
    (4, math.pi / 4, 0.4), (5, 0.0, 0.45),
)  # fmt: skip
"""Corners, turn, and for stars the radius of the inner corners; in the order of ``MARKS``."""
