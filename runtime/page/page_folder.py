"""A folder of pages that ``stale-run`` wrote: which page is of which video."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from stale_runtime.inputs.videos import VIDEO_PREFIX
from stale_runtime.page.video_page import relative_url
from stale_runtime.system.file_names import make_file_names

INDEX = "index.html"
"""Name of the page that leads to the others."""
_OURS = b'<meta name="generator" content="stale-edge '
_HEAD = 16_384
"""Bytes of a page in which that line is; the policy before it takes about one thousand."""


def find_pages(folder: Path, videos: Collection[str], page: Path) -> dict[str, str]:
    """The addresses of the pages of videos, by video id, as seen from another page.

    Pages are named after the files of the videos, with ActivityNet's ``v_`` in front or without.
    Videos whose ids differ only in capitals are left out, because which of them has which name depends on the run.

    Args:
        folder: what ``stale-run --format html -o`` wrote.
        videos: ids.
        page: where the page with the links is written.
    """
    found: dict[str, str] = {}
    for prefix in ("", VIDEO_PREFIX):
        names = {video: make_file_names([prefix + video], ".html", taken=(INDEX,))[0] for video in videos}
        uses = Counter(name.casefold() for name in names.values())
        paths = {video: folder / name for video, name in names.items() if uses[name.casefold()] == 1}
        found |= {video: relative_url(path, page) for video, path in paths.items() if _is_page(path)}
    return {video: found[video] for video in videos if video in found}


def _is_page(path: Path) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return _OURS in file.read(_HEAD)
