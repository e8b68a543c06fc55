"""The formats in which the shards of a run are put together: each video is written by itself, and joined later, so that
more videos than fit into memory can be sorted.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from stale_runtime.detections import VideoDetections, csv_header, csv_rows
from stale_runtime.evaluation.results import join_results, results_member
from stale_runtime.formats.output_format import OutputFormat
from stale_runtime.formats.program_rows import json_line
from stale_runtime.formats.registry import FORMATS
from stale_runtime.formats.result_rows import FailedVideo, ResultRow, VideoResult, row_of_result, run_details


@dataclass(frozen=True, kw_only=True)
class MergedRun:
    """What the shards of a run have in common."""

    settings: Mapping[str, Any]
    """What their detections depend on."""
    text: str
    """The same as JSON."""
    unit: str
    """Of all segments."""


@dataclass(frozen=True, kw_only=True)
class MergedFormat:
    """A format that ``stale-merge`` writes, as ``stale-run`` does."""

    form: OutputFormat
    piece: Callable[[VideoDetections], bytes]
    """Writes one video."""
    join: Callable[[Iterable[bytes], MergedRun], Iterable[bytes]] | None = None
    """Writes a file of such pieces; None if they are the file."""
    has_failed: bool = False
    """Whether videos that failed are in the file, as ``failed_piece`` writes them."""


def failed_piece(video: FailedVideo) -> bytes:
    """Like ``MergedFormat.piece``, of a video that failed."""
    return _row_piece(video)


def read_failed_piece(piece: bytes) -> FailedVideo:
    """The video that ``failed_piece`` wrote."""
    row = json.loads(piece)
    return FailedVideo(row["video"], row["error"], row["message"])


def _row_piece(result: VideoResult) -> bytes:
    return json.dumps(row_of_result(result, settings=""), ensure_ascii=False).encode()  # those are added later


def _join_json(pieces: Iterable[bytes], run: MergedRun) -> Iterator[bytes]:
    members = (piece.decode() for piece in pieces)
    version, external = f"stale-edge {run.settings.get('stale-edge')}", run.settings.get("external")
    details = run_details(run.settings)
    for text in join_results(members, version=version, external=external, unit=run.unit, run=details):
        yield text.encode()


def _join_csv(pieces: Iterable[bytes], run: MergedRun) -> Iterator[bytes]:
    yield csv_header(run.unit).encode()
    yield from pieces


def _join_parquet(pieces: Iterable[bytes], run: MergedRun) -> Iterator[bytes]:
    from stale_runtime.formats.parquet_table import parquet_pieces  # only this format needs it

    return parquet_pieces(_with_settings(piece, run.text) for piece in pieces)


def _with_settings(piece: bytes, settings: str) -> ResultRow:
    row: ResultRow = json.loads(piece)
    row["settings"] = settings
    return row


_ALL = (
    MergedFormat(form=FORMATS["json"], piece=lambda video: results_member(video).encode(), join=_join_json),
    MergedFormat(form=FORMATS["jsonl"], piece=lambda video: json_line(video).encode()),
    MergedFormat(form=FORMATS["csv"], piece=lambda video: csv_rows(video).encode(), join=_join_csv),
    MergedFormat(form=FORMATS["parquet"], piece=_row_piece, join=_join_parquet, has_failed=True),
)
MERGED_FORMATS: Mapping[str, MergedFormat] = MappingProxyType({merged.form.name: merged for merged in _ALL})
"""By name, in the order in which help lists them."""
