"""A folder of pages: one for each video, and their index; written whole or not at all."""

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType

from stale_runtime.detections import VideoDetections
from stale_runtime.evaluation.ground_truth import AnnotatedVideo
from stale_runtime.page.index_page import IndexRow, index_page
from stale_runtime.page.video_page import PageSettings, relative_url, video_page

INDEX = "index.html"
_OURS = b'<meta name="generator" content="stale-edge '
_HEAD = 16_384
"""Bytes of a file in which that line has to be; the policy before it takes about one thousand."""
_LONGEST_STEM = 80


def why_not_replaceable(folder: Path) -> str | None:
    """Why a folder of pages cannot be written at a path; None if it can.

    It can where nothing is, where an empty folder is, and over a folder in which all files are pages that this
    package wrote: these are replaced.

    Raises:
        OSError: the folder cannot be read.
    """
    if not os.path.lexists(folder):
        return None
    if os.path.islink(folder) or not os.path.isdir(folder):
        return "not a folder; give the path of a folder, which will be made"
    for entry in os.scandir(folder):
        if not entry.is_file(follow_symlinks=False) or not _is_page(Path(entry.path)):
            return f"a folder with something else than pages in it ({entry.name[:80]}); give another folder"
    return None


def find_pages(folder: Path, videos: Collection[str], page: Path) -> dict[str, str]:
    """The addresses of the pages of videos, by video id, as seen from another page.

    Videos whose page has no unmistakable name are left out: those whose names differ only in characters that a file's
    name does not keep, and those whose name is that of the index.

    Args:
        folder: what a ``PageFolder`` wrote.
        videos: ids.
        page: where the page with the links is written.
    """
    stems = {video: plain_stem(video) for video in videos}
    uses = Counter([INDEX.removesuffix(".html"), *(stem.lower() for stem in stems.values())])
    paths = {video: folder / f"{stem}.html" for video, stem in stems.items() if uses[stem.lower()] == 1}
    return {video: relative_url(path, page) for video, path in paths.items() if os.path.isfile(path) and _is_page(path)}


def _is_page(path: Path) -> bool:
    with open(path, "rb") as file:
        return _OURS in file.read(_HEAD)


def plain_stem(video: str) -> str:
    """The name of a video's page, without its suffix, as long as no other video's is the same."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", video).strip(".")[:_LONGEST_STEM] or "video"


class PageFolder:
    """Pages that appear in their folder all at once, when ``finish`` is called.

    Until then they are in a folder beside it, which leaving the ``with`` statement removes. Each video is written when
    it is added, so that a run over thousands needs no memory for them.
    """

    def __init__(self, folder: Path, settings: PageSettings) -> None:
        """Make the folder that is written to.

        Raises:
            OSError: it cannot be made.
        """
        self._folder = Path(os.path.abspath(folder))
        self._settings = settings
        self._rows: list[IndexRow] = []
        self._names = {INDEX.removesuffix(".html")}
        prefix = f".{self._folder.name[:80]}."
        self._unfinished = Path(tempfile.mkdtemp(dir=self._folder.parent, prefix=prefix, suffix=".unfinished"))

    def __enter__(self) -> "PageFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._unfinished, ignore_errors=True)

    def add(
        self,
        video: VideoDetections,
        *,
        source: Path | None = None,
        annotated: AnnotatedVideo | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Write the page of a video.

        Args:
            video: what was found.
            source: the video file, to be played; None if only features are known.
            annotated: see ``video_page``.
            notes: see ``video_page``.

        Raises:
            OSError: it cannot be written.
        """
        name = self._new_name(video.video)
        media = None if source is None else relative_url(source, self._folder / name)
        text = video_page(video, self._settings, media=media, annotated=annotated, notes=notes)
        (self._unfinished / name).write_text(text, "utf-8")
        self._rows.append(IndexRow.of(video, f"./{name}", self._settings.min_score))

    def finish(self, failed: Sequence[tuple[str, str]] = ()) -> None:
        """Write the index, and put the folder where it belongs, instead of the pages that may be there.

        Args:
            failed: videos without a page, each with the reason.

        Raises:
            OSError: it cannot be written.
        """
        (self._unfinished / INDEX).write_text(index_page(self._rows, self._settings, failed=failed), "utf-8")
        umask = os.umask(0)
        os.umask(umask)
        self._unfinished.chmod(0o777 & ~umask)  # a temporary folder is made for its owner alone
        old = self._unfinished.with_suffix(".old")
        if os.path.isdir(self._folder):
            self._folder.rename(old)
        try:
            self._unfinished.rename(self._folder)
        except OSError:
            if old.exists():
                old.rename(self._folder)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _new_name(self, video: str) -> str:
        """A file name that every file system takes, different from the others even where case does not count."""
        plain = plain_stem(video)
        stem, number = plain, 1
        while stem.lower() in self._names:
            number += 1
            stem = f"{plain}-{number}"
        self._names.add(stem.lower())
        return f"{stem}.html"
