"""The README's picture: frames of the example videos over the bars of their pages, what is marked and what is found."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import av
from PIL import Image

from tests.cli.same_process import run
from tests.page.browser import WIDE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Page

EXAMPLES = Path(__file__).parents[2] / "examples"
VIDEOS = ("washing_a_car", "painting_a_dog")
FRAMES = 9
"""Beside each other, each from the middle of its part of the video."""
FINER = 1.5
"""Pixels of the picture for a CSS pixel."""
MARGIN, GAP = 16, 10
"""CSS pixels around everything, and between its parts."""
LINE = 2
"""Pixels of the picture between frames."""


def example_picture(browser: "Browser", folder: Path) -> Image.Image:
    """The picture, drawn from pages that are written to a folder."""
    done = run(
        "stale-run",
        *(EXAMPLES / f"{video}.mp4" for video in VIDEOS),
        *("--bundle", EXAMPLES / "bundle", "--prompts", EXAMPLES / "classes.txt", "--no-cache"),
        *("--ground-truth", EXAMPLES / "truth.json", "--format", "html", "-o", "pages"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    width, height = WIDE
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=FINER)
    try:
        page = context.new_page()
        parts = []
        for video in VIDEOS:
            page.goto((folder / "pages" / f"{video}.html").as_uri())
            page.locator("#now").evaluate("line => line.hidden = true")
            parts += [] if parts else [_cut_out(page, "#key")]
            parts += [_film_strip(page, EXAMPLES / f"{video}.mp4"), _cut_out(page, "#timeline")]
    finally:
        context.close()
    return _stack(parts)


def _cut_out(page: "Page", selector: str) -> Image.Image:
    png = page.screenshot(full_page=True, clip=_box(page, selector))
    return Image.open(io.BytesIO(png)).convert("RGB")


def _film_strip(page: "Page", video: Path) -> Image.Image:
    """Frames of a video, above the part of the page's timeline that is their time."""
    whole, axis = _box(page, "#timeline"), _box(page, "#axis")
    left = round(FINER * (axis["x"] - whole["x"]))
    edges = [left + round(FINER * axis["width"] * n / FRAMES) for n in range(FRAMES + 1)]
    frames = _read_frames(video)
    height = round((edges[1] - edges[0] - LINE) * frames[0].height / frames[0].width)
    strip = Image.new("RGB", (round(FINER * whole["width"]), height), "white")
    for frame, start, end in zip(frames, edges[:-1], edges[1:], strict=True):
        strip.paste(frame.resize((end - start - LINE, height), Image.Resampling.LANCZOS), (start, 0))
    return strip


def _read_frames(video: Path) -> list[Image.Image]:
    with av.open(str(video)) as file:
        images = [frame.to_image() for frame in file.decode(video=0)]
    return [images[round((n + 0.5) * len(images) / FRAMES)] for n in range(FRAMES)]


def _box(page: "Page", selector: str) -> "FloatRect":
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box


def _stack(parts: Sequence[Image.Image]) -> Image.Image:
    """The parts below each other, on white."""
    gap, margin = round(FINER * GAP), round(FINER * MARGIN)
    width = max(part.width for part in parts) + 2 * margin
    picture = Image.new("RGB", (width, sum(part.height + gap for part in parts) - gap + 2 * margin), "white")
    top = margin
    for part in parts:
        picture.paste(part, (margin, top))
        top += part.height + gap
    return picture
