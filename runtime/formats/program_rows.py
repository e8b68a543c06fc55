"""Detections for programs: ActivityNet's results, JSON lines, and comma-separated rows."""

from stale_runtime.detections import detections_csv
from stale_runtime.formats.run_result import RunResult


def activitynet_results(result: RunResult) -> str:
    """ActivityNet's results format, see ``results_json``."""
    from stale_runtime.evaluation.results import results_json  # only this format needs it

    return results_json(result.shown, version=result.version, external=result.external, run=result.run)


def json_lines(result: RunResult) -> str:
    """A line for each video, see ``VideoDetections.to_json``."""
    return "".join(f"{video.to_json()}\n" for video in result.shown)


def comma_separated(result: RunResult) -> str:
    """Comma-separated rows, see ``detections_csv``."""
    return detections_csv(result.shown)
