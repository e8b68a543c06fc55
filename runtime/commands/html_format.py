"""``--format html``: what a run found, as pages for a browser."""

from typing import TYPE_CHECKING
from urllib.parse import quote

from stale_runtime.formats.output_format import OutputFormat
from stale_runtime.formats.run_result import RunResult
from stale_runtime.inputs.videos import is_video
from stale_runtime.page.page_folder import INDEX, relative_url

if TYPE_CHECKING:
    from stale_runtime.page.video_page import PageSettings

_NO_PLACE = "The page was written to stdout, so it cannot refer to the video; -o FILE would play it here."


def render_page(result: RunResult) -> str:
    """The page of the one video of a result."""
    from stale_runtime.page.video_page import video_page  # only pages need it

    (video,), (path,) = result.videos, result.paths
    notes, media = [], None
    if is_video(path):
        if result.output is None:
            notes.append(_NO_PLACE)
        else:
            media = relative_url(path, result.output)
    truth = result.ground_truth
    annotated = None if truth is None else truth.videos.get(video.video)
    return video_page(video, _settings(result), media=media, annotated=annotated, notes=notes)


def render_index(result: RunResult, names: tuple[str, ...]) -> str:
    """The page that leads to the pages of all videos.

    Args:
        result: the run.
        names: file name of each video's page.
    """
    from stale_runtime.page.index_page import IndexRow, index_page  # only pages need it

    settings = _settings(result)
    rows = [
        IndexRow.of(video, f"./{quote(name)}", settings.min_score)
        for video, name in zip(result.videos, names, strict=True)
    ]
    return index_page(rows, settings, failed=[(path.name, str(reason)) for path, reason in result.failed])


def _settings(result: RunResult) -> "PageSettings":
    from stale_runtime.page.video_page import PageSettings  # only pages need it

    return PageSettings(
        run=_describe_run(result), min_score=result.min_score or 0.0, judged=result.ground_truth is not None
    )


def _describe_run(result: RunResult) -> str:
    """One line on what made the detections."""
    run = result.run
    parts = [
        result.version,
        run["backend"],
        f"T={run['length']}",
        f"window {run['window']}",
        f"decoder {run['decoder']}",
        f"bundle {run['bundle_sha256'][:12]}",
    ]
    if result.recipe is not None:
        parts.append(f"feature recipe: {result.recipe}")
    if result.external is not None:
        parts.append(result.external)
    return " · ".join(parts)


HTML = OutputFormat(
    name="html",
    help="a page to look at: timeline, video, curves",
    suffix=".html",
    render=render_page,
    for_people=True,
    single_video=True,
    shows_ground_truth=True,
    shows_evidence=True,
    index=(INDEX, render_index),
)
"""Pages. A run over several videos writes one for each, and ``index.html``."""
