"""Drawing shapes in units of the picture's height."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from PIL import Image, ImageDraw

Point: TypeAlias = tuple[float, float]
Colour: TypeAlias = tuple[int, int, int]
WIDTH = 4 / 3
"""Of a picture; its height is 1."""
OUTLINE = 0.008
"""Width of the line around a shape."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """A picture and where its origin is; x grows to the right, or to the left if mirrored, and y grows upwards."""

    image: Image.Image
    pen: ImageDraw.ImageDraw
    origin: Point
    """Pixel at (0, 0)."""
    scale: float
    """Pixels of a unit."""
    mirrored: bool = False
    silhouette: bool = False
    """Whether every shape is white, on an image of 8 bits a pixel; outlines are 254."""

    @classmethod
    def on(cls, image: Image.Image, *, scale: float, shift: Point = (0.0, 0.0)) -> "Canvas":
        """A canvas whose origin is the lower left corner of an image.

        Args:
            image: to draw on.
            scale: pixels of a unit.
            shift: moves everything that is drawn, in units.
        """
        origin = (shift[0] * scale, image.height - shift[1] * scale)
        return cls(image=image, pen=ImageDraw.Draw(image), origin=origin, scale=scale)

    def placed(self, x: float, y: float, *, size: float = 1.0, facing: int = 1) -> "Canvas":
        """The same picture with the origin at a point.

        Args:
            x: of the point.
            y: of the point.
            size: the new unit, in units of this canvas.
            facing: 1, or -1 to mirror.
        """
        mirrored = self.mirrored != (facing < 0)
        return replace(self, origin=self._pixel((x, y)), scale=self.scale * size, mirrored=mirrored)

    def onto(self, image: Image.Image, *, silhouette: bool = False) -> "Canvas":
        """The same canvas on another image of the same size.

        Args:
            image: to draw on.
            silhouette: whether every shape is drawn in white; then the image has 8 bits a pixel.
        """
        return replace(self, image=image, pen=ImageDraw.Draw(image), silhouette=silhouette)

    def box_pixels(self, low: Point, high: Point) -> tuple[int, int, int, int]:
        """Left, upper, right and lower pixel of a box between two corners, inside the image."""
        (x0, y0), (x1, y1) = self._pixel(low), self._pixel(high)
        width, height = self.image.size
        left, right = (min(max(round(x), 0), width) for x in sorted((x0, x1)))
        upper, lower = (min(max(round(y), 0), height) for y in sorted((y0, y1)))
        return left, upper, right, lower

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line through some points."""
        pixels = [self._pixel(point) for point in points]
        self.pen.line(pixels, fill=self._fill(colour), width=self._width(width), joint="curve")

    def limb(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line with round ends."""
        self.line(points, width, colour)
        for end in (points[0], points[-1]):
            self.disc(end, width / 2, colour)

    def polygon(self, points: Sequence[Point], colour: Colour, outline: Colour | None = None) -> None:
        """Fill a polygon."""
        edge = None if outline is None else self._edge(outline)
        self.pen.polygon(
            [self._pixel(point) for point in points], fill=self._fill(colour), outline=edge, width=self._width(OUTLINE)
        )

    def box(self, low: Point, high: Point, colour: Colour, outline: Colour | None = None) -> None:
        """Fill a box between two corners."""
        self.polygon([low, (high[0], low[1]), high, (low[0], high[1])], colour, outline)

    def disc(self, centre: Point, radius: float, colour: Colour, outline: Colour | None = None) -> None:
        """Fill a circle."""
        self.ellipse(centre, (radius, radius), colour, outline)

    def ellipse(self, centre: Point, radii: Point, colour: Colour, outline: Colour | None = None) -> None:
        """Fill an ellipse, given its horizontal and vertical radius."""
        edge = None if outline is None else self._edge(outline)
        self.pen.ellipse(self._around(centre, radii), self._fill(colour), edge, self._width(OUTLINE))

    def ring(self, centre: Point, radius: float, width: float, colour: Colour) -> None:
        """Draw a circle."""
        self.pen.ellipse(self._around(centre, (radius, radius)), None, self._fill(colour), self._width(width))

    def _around(self, centre: Point, radii: Point) -> tuple[float, float, float, float]:
        x, y = self._pixel(centre)
        wide, high = radii[0] * self.scale, radii[1] * self.scale
        return x - wide, y - high, x + wide, y + high

    def _pixel(self, point: Point) -> Point:
        x = -point[0] if self.mirrored else point[0]
        return self.origin[0] + x * self.scale, self.origin[1] - point[1] * self.scale

    def _width(self, width: float) -> int:
        return max(1, round(width * self.scale))

    def _fill(self, colour: Colour) -> Colour | int:
        return 255 if self.silhouette else colour

    def _edge(self, colour: Colour) -> Colour | int:
        return 254 if self.silhouette else colour  # Pillow leaves out an outline that has the colour of the shape


def darker(colour: Colour, factor: float = 0.55) -> Colour:
    """A colour times a factor."""
    red, green, blue = colour
    return int(red * factor), int(green * factor), int(blue * factor)
