import json
import os
from pathlib import Path

from stale_runtime.batch.batch import Batch
from stale_runtime.batch.run_report import run_report_json
from stale_runtime.errors import FeatureError
from stale_runtime.inference.outcome import Outcome
from tests.runtime.batch.test_batch import BAD, FOUND, GOOD


def test_it_says_what_became_of_each_video() -> None:
    batch = Batch(paths=(GOOD.path, BAD.path, Path("v_c.npy")), outcomes=(GOOD, BAD), fail_fast=True)
    report = json.loads(run_report_json(batch, resumed=1, run={"backend": "ort-int8"}))
    assert report["counts"] == {"videos": 3, "ok": 1, "failed": 1, "skipped": 1, "resumed": 1}
    assert report["exit_code"] == FeatureError.exit_code
    assert report["run"] == {"backend": "ort-int8"}
    assert report["videos"] == [
        {"video": "a", "path": "a.npy", "status": "ok", "detections": len(FOUND.detections), "window": None},
        {
            "video": "b",
            "path": "b.npy",
            "status": "failed",
            "error": "FeatureError",
            "message": "b.npy: broken",
            "exit_code": FeatureError.exit_code,
        },
        {"video": "c", "path": "v_c.npy", "status": "skipped"},
    ]


def test_a_name_that_is_no_text_does_not_cost_the_report() -> None:
    path = Path(os.fsdecode(b"caf\xe9.npy"))
    outcome = Outcome(path, None, FeatureError(f"{path}: broken"))
    text = run_report_json(Batch(paths=(path,), outcomes=(outcome,)), resumed=0, run={})
    assert "caf" in json.loads(text.encode())["videos"][0]["path"]
