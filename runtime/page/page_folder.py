"""A folder of pages that ``stale-run`` wrote: which page is of which video."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from stale_runtime.page.video_page import relative_url
from stale_runtime.system.file_names import make_file_names

INDEX = "index.html"
"""Name of the page that leads to the others."""
_OURS = b'<meta name="generator" content="stale-edge '
_HEAD = 16_384
"""Bytes of a page in which that line is; the policy before it takes about one thousand."""


def find_pages(folder: Path, videos: Collection[str], page: Path) -> dict[str, str]:
    """The addresses of the pages of videos, by video id, as seen from another page.

    Videos whose ids differ only in capitals are left out, because which of them has which name depends on the run.

    Args:
        folder: what ``stale-run --format html -o`` wrote.
        videos: ids.
        page: where the page with the links is written.
    """
    names = {video: make_file_names([video], ".html", taken=(INDEX,))[0] for video in videos}
    uses = Counter(name.casefold() for name in names.values())
    paths = {video: folder / name for video, name in names.items() if uses[name.casefold()] == 1}
    return {video: relative_url(path, page) for video, path in paths.items() if os.path.isfile(path) and _is_page(path)}


def _is_page(path: Path) -> bool:
    with open(path, "rb") as file:
        return _OURS in file.read(_HEAD)
