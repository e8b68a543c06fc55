"""What became of each video of a run, for programs."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stale_runtime.batch.batch import Batch
from stale_runtime.inference.localizer import Outcome
from stale_runtime.inputs.videos import video_id
from stale_runtime.system.text import as_text
from stale_runtime.version import __version__

FORMAT = 1


def run_report_json(batch: Batch, *, resumed: int, run: Mapping[str, Any]) -> str:
    """The report of a run.

    Args:
        batch: how its videos came out.
        resumed: how many of them an interrupted run had finished.
        run: the settings it was made with; kept as they are.
    """
    reached = [_entry(outcome) for outcome in batch.outcomes]
    skipped = [_named(path, "skipped") for path in batch.paths[len(reached) :]]
    videos = [*reached, *skipped]
    counts = Counter(video["status"] for video in videos)
    content = {
        "format": FORMAT,
        "version": f"stale-edge {__version__}",
        "exit_code": batch.exit_code,
        "counts": {
            "videos": len(videos),
            **{status: counts[status] for status in ("ok", "failed", "skipped")},
            "resumed": resumed,
        },
        "run": dict(run),
        "videos": videos,
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _named(path: Path, status: str) -> dict[str, Any]:
    return {"video": video_id(path.stem), "path": as_text(str(path)), "status": status}


def _entry(outcome: Outcome) -> dict[str, Any]:
    if outcome.error is None:
        return {**_named(outcome.path, "ok"), "detections": len(outcome.result().detections)}
    return {
        **_named(outcome.path, "failed"),
        "error": type(outcome.error).__name__,
        "message": as_text(str(outcome.error)),
        "exit_code": outcome.error.exit_code,
    }
