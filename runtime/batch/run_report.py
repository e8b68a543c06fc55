"""The result of each video of a run, as JSON for programs."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from stale_runtime.batch.batch import Batch
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inputs.remote_files import Source
from stale_runtime.inputs.videos import video_id
from stale_runtime.system.text import as_text
from stale_runtime.version import __version__

FORMAT = 1


def run_report_json(batch: Batch, *, resumed: int, run: Mapping[str, Any], ended: tuple[int, str] | None = None) -> str:
    """The report of a run.

    Args:
        batch: the outcomes of its videos.
        resumed: how many of them an interrupted run had finished.
        run: the run's settings, written unchanged.
        ended: exit code and message of what ended the run early; None if nothing did.
    """
    code, message = (batch.exit_code, None) if ended is None else ended
    reached = [_describe_outcome(outcome, batch.warnings.get(outcome.path)) for outcome in batch.outcomes]
    skipped = [_describe(path, "skipped") for path in batch.paths[len(reached) :]]
    videos = [*reached, *skipped]
    counts = Counter(video["status"] for video in videos)
    content = {
        "format": FORMAT,
        "version": f"stale-edge {__version__}",
        "exit_code": code,
        "ended_by": None if message is None else as_text(message),
        "counts": {
            "videos": len(videos),
            **{status: counts[status] for status in ("ok", "failed", "skipped")},
            "resumed": resumed,
            **({"recomputed": batch.recomputed} if batch.recomputed else {}),
        },
        "run": dict(run),
        "videos": videos,
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _describe(path: Source, status: str) -> dict[str, Any]:
    return {"video": video_id(path.stem), "path": as_text(str(path)), "status": status}


def _describe_outcome(outcome: Outcome, warning: str | None) -> dict[str, Any]:
    if outcome.error is None:
        found = outcome.result()
        return {
            **_describe(outcome.path, "ok"),
            "detections": len(found),
            "window": found.window,
            **({"recomputed": found.recomputed} if found.recomputed else {}),
            **({} if warning is None else {"warning": as_text(warning)}),
        }
    return {
        **_describe(outcome.path, "failed"),
        "error": type(outcome.error).__name__,
        "message": as_text(str(outcome.error)),
        "exit_code": outcome.error.exit_code,
    }
