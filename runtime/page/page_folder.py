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

    A page is named after the file of its video, which may have ActivityNet's prefix ``v_``; the id does not. Videos
    whose names differ only in capitals, or that have a page of either name, are left out, because which of them is
    meant depends on the run.

    Args:
        folder: what ``stale-run --format html -o`` wrote.
        videos: ids.
        page: where the page with the links is written.
    """
    names = {video: [_page_name(stem) for stem in (video, f"v_{video}")] for video in videos}
    uses = Counter(name.casefold() for both in names.values() for name in both)
    found = {}
    for video, both in names.items():
        paths = [folder / name for name in both if uses[name.casefold()] == 1 and _is_page(folder / name)]
        if len(paths) == 1:
            found[video] = relative_url(paths[0], page)
    return found


def _page_name(stem: str) -> str:
    return make_file_names([stem], ".html", taken=(INDEX,))[0]


def _is_page(path: Path) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return _OURS in file.read(_HEAD)
