"""Where pages lie: which page of a folder is of which video, and the addresses of files as seen from a page."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

from stale_runtime.inputs.videos import VIDEO_PREFIX
from stale_runtime.system.file_names import make_file_names

INDEX = "index.html"
"""Name of the page that leads to the others."""
_OURS = b'<meta name="generator" content="stale-edge '
_HEAD = 16_384
"""Bytes of a page in which that line is; the policy before it takes about one thousand."""


def find_pages(folder: Path, videos: Collection[str], page: Path) -> dict[str, str]:
    """The addresses of the pages of videos, by video id, as seen from another page.

    Left out are videos whose ids differ only in capitals, because which of them has which name depends on the run, and
    videos that two pages may be of.

    Args:
        folder: what ``stale-run --format html -o`` wrote.
        videos: ids.
        page: where the page with the links is written.
    """
    # A page is named after its video's file, which may have ActivityNet's prefix that the id does not have.
    names = {
        video: [make_file_names([stem], ".html", taken=(INDEX,))[0] for stem in (video, VIDEO_PREFIX + video)]
        for video in videos
    }
    uses = Counter(name.casefold() for several in names.values() for name in several)
    pages = {}
    for video, several in names.items():
        paths = [folder / name for name in several if uses[name.casefold()] == 1]
        ours = [path for path in paths if os.path.isfile(path) and _is_page(path)]
        if len(ours) == 1:
            pages[video] = relative_url(ours[0], page)
    return pages


def relative_url(file: Path, page: Path) -> str:
    """The address of a file as seen from a page, percent-encoded.

    Args:
        file: what the page refers to; of a link, its target.
        page: where the page is written.
    """
    relative = os.path.relpath(os.path.realpath(file), os.path.realpath(page.parent))
    # With ./ in front, a colon in a name is not taken for a scheme.
    return quote(os.fsencode(relative if relative.startswith("../") else f"./{relative}"))


def _is_page(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return _OURS in file.read(_HEAD)
    except OSError:  # nobody misses a link to what cannot be opened
        return False
