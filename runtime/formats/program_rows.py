"""Detections for programs: ActivityNet's results, JSON lines, comma-separated rows, and Parquet."""

import json
from typing import Any

from stale_runtime.detections import VideoDetections, detections_csv, json_rows
from stale_runtime.formats.run_result import RunResult


def activitynet_results(result: RunResult) -> str:
    """ActivityNet's results format, see ``results_json``."""
    from stale_runtime.evaluation.results import results_json  # only this format needs it

    return results_json(result.shown, version=result.version, external=result.external, run=result.run)


def json_lines(result: RunResult) -> str:
    """A line for each video, see ``VideoDetections.to_json``; of a shard with all that is known, and a last line."""
    if result.end is None:
        return "".join(map(json_line, result.shown))
    failed = [failure._asdict() for failure in result.failures()]
    return "".join([*map(_shard_line, result.shown), result.end.to_json(failed=failed), "\n"])


def json_line(video: VideoDetections) -> str:
    """What ``json_lines`` writes of one video."""
    return f"{video.to_json()}\n"


def _shard_line(video: VideoDetections) -> str:
    """Like ``json_line``, with what other formats say, too."""
    content: dict[str, Any] = {"video": video.video, "duration_s": video.duration_s, "unit": video.unit}
    if video.window is not None:
        content["window"] = video.window
    if video.recomputed:
        content["recomputed"] = video.recomputed
    content["detections"] = json_rows(video)
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def comma_separated(result: RunResult) -> str:
    """Comma-separated rows, see ``detections_csv``."""
    return detections_csv(result.shown)


def parquet_table(result: RunResult) -> bytes:
    """A Parquet file with a row for each video, in order of their ids, see ``ResultRow``."""
    from stale_runtime.formats.parquet_table import parquet_pieces  # only this format needs it
    from stale_runtime.formats.result_rows import VideoResult, row_of_result, settings_text

    results: list[VideoResult] = [*result.shown, *result.failures()]
    results.sort(key=lambda video: video.video)
    settings = settings_text(result.settings)
    return b"".join(parquet_pieces((row_of_result(video, settings) for video in results), result.end))
