"""The documented limits are those of the code, and anything beyond them is refused."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from stale_runtime.batch.found_files import find_files
from stale_runtime.errors import DatasetError, FeatureError
from stale_runtime.evaluation import ground_truth, results, video_labels
from stale_runtime.inputs import videos
from stale_runtime.system.cpus import available_threads
from tests.cli.command import run
from tests.tiny import CHANNELS, CLASSES

TABLE = (Path(__file__).parents[1] / "docs" / "limits.md").read_text()
ROWS = re.findall(r"^\|.*\| ([\d,]+) \| `([\w.]+)\.(\w+)` \|$", TABLE, re.MULTILINE)


def test_the_table_is_read() -> None:
    assert len(ROWS) == TABLE.count("| `stale_")
    assert len(ROWS) >= 15


@pytest.mark.parametrize(("number", "module", "name"), ROWS)
def test_a_documented_ceiling_is_the_code_s(number: str, module: str, name: str) -> None:
    assert int(number.replace(",", "")) == getattr(import_module(module), name)


NO_ANNOTATIONS = {"duration": 1, "annotations": []}
THREE = [{"label": "polo", "segment": [0, 1]}] * 3
DETECTION = {"label": "polo", "score": 0.5, "segment": [0, 1]}


@pytest.mark.parametrize(
    ("read", "module", "ceiling", "content", "says"),
    [
        (ground_truth.read_ground_truth, ground_truth, "MOST_VIDEOS", dict.fromkeys("abc", NO_ANNOTATIONS), "videos"),
        (
            ground_truth.read_ground_truth,
            ground_truth,
            "MOST_ANNOTATIONS",
            {"a": {"annotations": THREE}, "b": NO_ANNOTATIONS},
            "annotations",
        ),
        (videos.read_durations, videos, "MOST_VIDEOS", dict.fromkeys("abc", NO_ANNOTATIONS), "videos"),
        (video_labels.read_video_labels, video_labels, "MOST_VIDEOS", {name: {} for name in "abc"}, "videos"),
        (results.read_results, results, "MOST_VIDEOS", {"results": {name: [] for name in "abc"}}, "videos"),
        (
            results.read_results,
            results,
            "MOST_DETECTIONS",
            {"results": {"a": [DETECTION], "b": [DETECTION] * 2}},
            "detections",
        ),
    ],
)
def test_more_of_them_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path], object],
    module: object,
    ceiling: str,
    content: object,
    says: str,
) -> None:
    database = content if read in (results.read_results, video_labels.read_video_labels) else {"database": content}
    path = tmp_path / "many.json"
    path.write_text(json.dumps(database))
    monkeypatch.setattr(module, ceiling, 2)
    with pytest.raises(DatasetError, match=rf"many\.json: 3 {says}.*expected at most 2"):
        read(path)
    monkeypatch.setattr(module, ceiling, 3)
    if read is not video_labels.read_video_labels:
        read(path)


def test_more_lines_of_durations_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "many.csv"
    path.write_text("video,seconds\na,1\nb,2\nc,3\n")
    monkeypatch.setattr(videos, "MOST_VIDEOS", 2)
    with pytest.raises(DatasetError, match=r"many\.csv: 4 lines, expected at most 3"):
        videos.read_durations(path)
    monkeypatch.setattr(videos, "MOST_VIDEOS", 3)
    assert videos.read_durations(path) == {"a": 1, "b": 2, "c": 3}


def test_more_feature_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / f"{name}.npy").touch()
    monkeypatch.setattr("stale_runtime.batch.found_files.MOST_FILES", 2)
    with pytest.raises(FeatureError, match="3 files, expected at most 2; divide them into several runs"):
        find_files([tmp_path])
    monkeypatch.setattr("stale_runtime.batch.found_files.MOST_FILES", 3)
    assert len(find_files([tmp_path])) == 3


@pytest.fixture
def work(bundle: Path, tmp_path: Path) -> Path:
    (tmp_path / "stale_bundle").symlink_to(bundle)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    np.save(tmp_path / "video.npy", np.random.default_rng(0).normal(size=(30, CHANNELS)))
    return tmp_path


def test_more_threads_than_cpus_are_capped_and_said(work: Path) -> None:
    done = run("stale-run", "video.npy", "--prompts", "classes.txt", "--threads", "5000", cwd=work)
    assert done.returncode == 0
    capped = f"--threads 5000: this process may run on {available_threads()} CPUs, so {available_threads()} are used"
    assert capped in done.stderr
    assert "--threads" not in run("stale-run", "video.npy", "--prompts", "classes.txt", cwd=work).stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces a limit on address space")
def test_memory_that_is_not_there_is_not_taken(work: Path) -> None:
    """Even this tiny network needs hundreds of megabytes for the largest number of prompts at T=4096."""
    (work / "classes.txt").write_text("\n".join(f"class {n}" for n in range(4096)))
    command = ["stale-run", "video.npy", "--prompts", "classes.txt", "--length", "4096", "--no-cache"]
    done = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:]],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_AS, (7 * 10**8, 7 * 10**8)),
    )
    assert done.returncode == 3, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert re.search(r"video\.npy: not enough memory \(.*\); take a smaller --length", line), line
