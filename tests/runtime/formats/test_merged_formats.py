"""Files that are joined of pieces are those that a run writes."""

import pytest

from stale_runtime.formats.merged_formats import MERGED_FORMATS, MergedRun, failed_piece, read_failed_piece
from stale_runtime.formats.registry import FORMATS
from stale_runtime.formats.result_rows import FailedVideo, run_details, settings_text
from tests.runtime.formats.results import hostile_video, result_of, video_of


@pytest.mark.parametrize("name", [name for name in MERGED_FORMATS if name != "parquet"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_pieces_make_the_file_of_a_run(name: str, count: int) -> None:
    names = ('a "quoted", name', "b\nc", "d")
    videos = [video_of(('Ünï, "x"\n', 0.1 + 0.2, 2.5, 1 / 3), name=name) for name in names[:count]]
    settings = {"stale-edge": "1.2", "backend": "x", "external": None}
    run = MergedRun(settings=settings, text=settings_text(settings), unit="seconds")
    merged = MERGED_FORMATS[name]
    pieces = [merged.piece(video) for video in videos]
    joined = pieces if merged.join is None else merged.join(pieces, run)
    assert b"".join(joined) == FORMATS[name].content(result_of(*videos, run=run_details(settings)))


def test_a_video_that_failed_is_kept_whole() -> None:
    failed = FailedVideo(hostile_video().detections[0].label, "FeatureError", 'a\nb: é"')
    assert read_failed_piece(failed_piece(failed)) == failed
