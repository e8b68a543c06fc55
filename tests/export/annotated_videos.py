"""Drawn videos with annotations that agree with what a bundle finds in them."""

import json
from pathlib import Path

from stale_runtime import Localizer
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.settings import Settings
from tests import tiny
from tests.small_video import write_clip

SECONDS = 12


def write_annotated_videos(folder: Path, bundle: Path, *, count: int = 3, most: int = 8) -> Path:
    """Write ``videos`` and ``annotations.json``: the best detections with the vision tower and localizer in float."""
    (folder / "videos").mkdir(parents=True)
    localizer = Localizer(Bundle(bundle), Settings(backend="ort-fp32", vision_precision="fp32"))
    database = {}
    for n in range(count):
        path = write_clip(folder / "videos" / f"v_{n}.avi", SECONDS, fps=10, seed=n)
        found = localizer.detect_video(path, tiny.CLASSES).detections[:most]
        annotations = [{"label": row.label, "segment": [row.start, row.end]} for row in found]
        database[str(n)] = {"duration": float(SECONDS), "subset": "validation", "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    return folder
