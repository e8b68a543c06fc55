"""The command as a user types it: on a machine with one CPU, killed, and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from stale_runtime import Bundle, Localizer, read_prompts
from tests.ray.conftest import BUNDLE, PROMPTS
from tests.ray.test_listing_run import rows_of

LONGEST_S = 120
"""After which a run counts as hung; it takes ten."""


def start(features: Path, out: Path, *options: str, cpus: str = "") -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "stale_runtime.ray_data", str(features), "--prompts", str(PROMPTS)]
    command += ["--bundle", str(BUNDLE), "-o", str(out), "--object-store", "100", *options]
    if cpus:
        command = ["taskset", "--cpu-list", cpus, *command]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def test_one_cpu_is_enough_and_what_is_merged_is_what_stale_run_writes(feature_files: Path, tmp_path: Path) -> None:
    first, listing = str(min(os.sched_getaffinity(0))), tmp_path / "list.txt"
    listing.write_text("".join(f"{path}\n" for path in feature_files.glob("*.npy")))
    run = start(listing, tmp_path / "out", cpus=first)
    _, errors = run.communicate(timeout=LONGEST_S)
    assert run.returncode == 5, errors
    assert "2 of 32 videos failed" in errors
    assert "torn.npy: truncated" in errors
    for name, module, arguments in (
        ("one.json", "run", [feature_files, "--prompts", PROMPTS, "--bundle", BUNDLE, "--format", "json"]),
        ("merged.json", "merge", [tmp_path / "out", "--videos", listing]),
    ):
        command = [
            sys.executable,
            "-m",
            f"stale_runtime.commands.{module}",
            *map(str, arguments),
            "-o",
            str(tmp_path / name),
        ]
        subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    one, merged = ((tmp_path / name).read_bytes() for name in ("one.json", "merged.json"))
    assert len(json.loads(one)["results"]) == 30
    assert one == merged


def test_a_killed_run_continues_and_each_video_has_one_row(feature_files: Path, tmp_path: Path) -> None:
    channels, generator = Bundle(BUNDLE).manifest.channels, np.random.default_rng(1)
    for number in range(200):
        np.save(feature_files / f"more{number:03}.npy", generator.standard_normal((60, channels), np.float32))
    out = tmp_path / "out"
    run = start(feature_files, out)
    ended_s = time.monotonic() + LONGEST_S
    while not list(out.glob("*.parquet")) and time.monotonic() < ended_s and run.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            run.wait(0.05)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    kept = {path.name for path in out.glob("*.parquet")}
    assert kept
    again = start(feature_files, out, "--resume")
    _, errors = again.communicate(timeout=LONGEST_S)
    assert again.returncode == 5, errors
    assert "0 videos were finished before" not in errors
    rows = rows_of(out)
    assert rows.keys() == {path.stem for path in feature_files.glob("*.npy")}
    localizer = Localizer.open(BUNDLE)
    found = localizer.detect_file(feature_files / "more007.npy", read_prompts(PROMPTS))
    assert [tuple(row.values()) for row in rows["more007"]["detections"]] == list(found.detections)
