"""``make screenshots``: the pictures of pages in docs/pictures/, made of the reference videos."""

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

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
VIDEO = "-oExUcmbTEE"
"""The README's example: two long jumps."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
COLOURS = 128
"""Of a picture's palette, which halves its size."""


def main() -> int:
    """Write the pictures; with a bundle of the reference checkpoint in ``$STALE_BUNDLE``."""
    chromium, bundle = find_chromium(), os.environ.get("STALE_BUNDLE")
    if chromium is None or not REFERENCE.is_dir() or bundle is None:
        print("needs Chromium, ../shared/reference, and $STALE_BUNDLE: a bundle of its checkpoint", file=sys.stderr)
        return 1
    truth = REFERENCE / "ground_truth.json"
    with tempfile.TemporaryDirectory() as name, running_chromium(chromium) as browser:
        folder = Path(name)
        done = run(
            "stale-run",
            *(REFERENCE / "features", "--prompts", REFERENCE / "classes.txt", "--bundle", Path(bundle).absolute()),
            *("--durations", truth, "--ground-truth", truth, "--format", "html", "-o", "pages", "--min-score", "0.1"),
            cwd=folder,
        )
        print(done.stderr.strip(), file=sys.stderr)
        for path, stem in ((folder / "pages" / "index.html", "index"), (find_page(folder / "pages"), "page")):
            for size, width in ((WIDE, "wide"), (PHONE, "phone")):
                for scheme in SCHEMES:
                    take(browser, path, PICTURES / f"{stem}_{width}_{scheme}.png", size, scheme)
    return 0


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
        picture.write_bytes(smaller(screenshot(page, size)))
        assert watched.messages == []
        print(picture.name, f"{picture.stat().st_size:,} bytes", file=sys.stderr)


def screenshot(page: "Page", size: tuple[int, int]) -> bytes:
    """The upper part of a page as PNG."""
    width, height = size
    whole = page.evaluate("document.documentElement.scrollHeight")
    return page.screenshot(
        full_page=True, clip={"x": 0, "y": 0, "width": width, "height": min(whole, max(height, 1200))}
    )


def smaller(png: bytes) -> bytes:
    """The same picture with a palette."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
