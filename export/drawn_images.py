"""Images that look like photographs to a network: drawn shapes with the statistics of natural scenes."""

import numpy as np
from numpy.typing import NDArray

_SHAPES = 250
_SMALLEST = 0.02
"""Radius of the smallest shape, as a share of the image's side."""


def draw_images(count: int, size: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw images.

    Each shows shapes that hide each other, of all sizes, in colours of one scene, with soft shading, light from one
    side and sensor noise. Images differ in brightness, contrast and colour, as those of different videos do.

    Args:
        count: B
        size: S, pixels on a side.
        seed: equal seeds give equal images.

    Returns:
        (B, S, S, 3)

    Source: the dead leaves model of natural scenes (Lee, Mumford and Huang, IJCV 2001).
    """
    return np.stack([_draw(size, np.random.default_rng([seed, number])) for number in range(count)])


def _draw(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    y, x = np.mgrid[:size, :size] / size
    brightness, tint = rng.normal(0.5, 0.25, (12, 1)), rng.normal(0, 0.1, (12, 3))
    palette = np.clip(brightness + tint + rng.normal(0, 0.05, 3), 0, 1)
    image = np.broadcast_to(palette[0], (size, size, 3)).copy()
    # Radii whose density falls with their cube, as the model asks for; the largest come first.
    radii = _SMALLEST / np.sqrt(rng.uniform((2 * _SMALLEST) ** 2, 1, _SHAPES))
    for radius in np.sort(radii)[::-1]:
        row, column, stretch, angle = rng.uniform((0, 0, 0.4, 0), (1, 1, 1, np.pi))
        along = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
        across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
        if rng.random() < 0.5:
            inside = (along / radius) ** 2 + (across / (stretch * radius)) ** 2 < 1
        else:
            inside = (np.abs(along) < radius) & (np.abs(across) < stretch * radius)
        shade = 1 + rng.normal(0, 0.3) * along[inside] / radius
        image[inside] = palette[rng.integers(len(palette))] * shade[:, None]
    light = 1 + rng.uniform(-0.5, 0.5) * (x - 0.5) + rng.uniform(-0.5, 0.5) * (y - 0.5)
    image = image * light[..., None] * rng.uniform(0.5, 1.2) + rng.normal(0, rng.uniform(0.005, 0.03), image.shape)
    drawn: NDArray[np.uint8] = np.rint(255 * image.clip(0, 1)).astype(np.uint8)
    return drawn
