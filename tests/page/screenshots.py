"""``make screenshots``: the pictures of pages in docs/pictures/, made of the examples and of the reference videos."""

import io
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from tests.cli.command import run
from tests.conftest import REFERENCE
from tests.page.browser import PHONE, WIDE, find_chromium, running_chromium, watched_page
from tests.page.example_picture import example_picture

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
VIDEO = "-oExUcmbTEE"
"""The README's example: two long jumps."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
COLOURS, FINE_COLOURS = 128, 256
"""Of the palette of a picture, which halves its size; more for one with frames of a video."""


def main() -> int:
    """Write the pictures; those of the reference videos with a bundle of their checkpoint in ``$STALE_BUNDLE``."""
    chromium, bundle = find_chromium(), os.environ.get("STALE_BUNDLE")
    if chromium is None:
        print("needs Chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name, running_chromium(chromium) as browser:
        write_picture(PICTURES / "example_page.png", small_png(example_picture(browser, Path(name)), FINE_COLOURS))
        if not REFERENCE.is_dir() or bundle is None:
            print("the others need ../shared/reference, and $STALE_BUNDLE: a bundle of its checkpoint", file=sys.stderr)
            return 0
        take_reference_pages(browser, Path(name), Path(bundle).absolute())
    return 0


def take_reference_pages(browser: "Browser", folder: Path, bundle: Path) -> None:
    """Take pictures of the pages of the reference videos, which are written to a folder."""
    truth = REFERENCE / "ground_truth.json"
    done = run(
        "stale-run",
        *(REFERENCE / "features", "--prompts", REFERENCE / "classes.txt", "--bundle", bundle),
        *("--durations", truth, "--ground-truth", truth, "--format", "html", "-o", "reference", "--min-score", "0.1"),
        cwd=folder,
    )
    print(done.stderr.strip(), file=sys.stderr)
    pages = folder / "reference"
    for path, stem in ((pages / "index.html", "index"), (find_page(pages), "page")):
        for size, width in ((WIDE, "wide"), (PHONE, "phone")):
            for scheme in SCHEMES:
                take(browser, path, PICTURES / f"{stem}_{width}_{scheme}.png", size, scheme)


def find_page(folder: Path) -> Path:
    """The page of ``VIDEO``, whose name may end in a hash, as ids that begin with a hyphen are no safe file names."""
    return next(path for path in folder.iterdir() if VIDEO.lstrip("-") in path.name)


def take(
    browser: "Browser", path: Path, picture: Path, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    """Take a picture of the upper part of a page, with the first detection chosen."""
    with watched_page(browser, size, scheme) as watched:
        page = watched.open(path)
        page.keyboard.press("n")
        write_picture(picture, small_png(Image.open(io.BytesIO(screenshot(page, size))).convert("RGB"), COLOURS))
        assert watched.messages == []


def write_picture(path: Path, png: bytes) -> None:
    """Write a picture, and say how large it is."""
    path.write_bytes(png)
    print(path.name, f"{len(png):,} bytes", file=sys.stderr)


def screenshot(page: "Page", size: tuple[int, int]) -> bytes:
    """The upper part of a page as PNG."""
    width, height = size
    whole = page.evaluate("document.documentElement.scrollHeight")
    return page.screenshot(
        full_page=True, clip={"x": 0, "y": 0, "width": width, "height": min(whole, max(height, 1200))}
    )


def small_png(image: Image.Image, colours: int) -> bytes:
    """A picture as PNG with a palette."""
    buffer = io.BytesIO()
    image.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
