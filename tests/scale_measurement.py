"""Measuring what ``tests.scale_model`` starts from, with the commands as a user types them."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

LISTED = 1_000_000
"""Paths of the listing whose reading is timed."""
_PROGRAMS = Path(sys.executable).parent


class Used(NamedTuple):
    """What a command took."""

    wall_s: float
    cpu_s: float
    """Of it and its children."""


def measure(bundle: Path, prompts: Path, features: Path, clips: Path) -> dict[str, float]:
    """The measured inputs by name; those of an extra that is not installed are left out.

    Args:
        bundle: with a vision tower, if there are clips.
        prompts: class names.
        features: a folder of feature files.
        clips: a folder of short videos.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        options = ["--prompts", prompts, "--bundle", bundle]
        program = [_PROGRAMS / "stale-run"]
        start = _best([_run([*program, first(features), *options, "-o", work / f"{n}.jsonl"]) for n in range(5)])
        files, many = _best_of(features, program, options, work / "features.jsonl")
        clip = _run([*program, first(clips), *options, "-o", work / "clip.jsonl"])
        videos, watched = _best_of(clips, program, options, work / "clips.jsonl")
        found = {
            "features_s": (many.cpu_s - start.cpu_s) / (len(files) - 1),
            "clips_s": (watched.cpu_s - clip.cpu_s) / (len(videos) - 1),
            "features_bytes": sum(path.stat().st_size for path in files) / len(files),
            "clips_bytes": sum(path.stat().st_size for path in videos) / len(videos),
            "jsonl_bytes": (work / "features.jsonl").stat().st_size / len(files),
            "start_s": start.wall_s,
            "start_cpu_s": start.cpu_s,
            "listed_s": _time_listing(work / "listing.txt"),
        }
        if importlib.util.find_spec("pyarrow"):
            found |= _measure_shards(features, options, work, len(files))
        if importlib.util.find_spec("ray"):
            found |= _measure_ray(features, options, work, (len(files), many))
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def first(folder: Path) -> Path:
    """The first file of a folder."""
    return min(path for path in folder.iterdir() if path.is_file())


def _best_of(folder: Path, program: Sequence[Path], options: Sequence[object], out: Path) -> tuple[list[Path], Used]:
    """The files of a folder, and what a run over them takes."""
    files = [path for path in folder.iterdir() if path.suffix in (".npy", ".mp4", ".mkv", ".webm")]
    return files, _best([_run([*program, folder, *options, "-o", out]) for _ in range(2)])


def _measure_shards(features: Path, options: Sequence[object], work: Path, count: int) -> dict[str, float]:
    """What results take as Parquet, and merging takes."""
    (work / "shards").mkdir()
    for n in range(4):
        shard = work / "shards" / f"{n}.parquet"
        _run([_PROGRAMS / "stale-run", features, *options, "--shard", f"{n}/4", "-o", shard])
    size = sum(path.stat().st_size for path in (work / "shards").iterdir())
    merge = [_PROGRAMS / "stale-merge", work / "shards", "-o", work / "merged.jsonl"]
    empty = _best([_run([_PROGRAMS / "stale-merge", "--version"]) for _ in range(3)])
    merged = _best([_run(merge) for _ in range(3)])
    return {"parquet_bytes": size / count, "merged_s": max(merged.cpu_s - empty.cpu_s, 0) / count}


def _measure_ray(features: Path, options: Sequence[object], work: Path, plain: tuple[int, Used]) -> dict[str, float]:
    """What Ray takes to start, and for a video more than ``stale-run``."""
    few, all_files = work / "few.txt", work / "all.txt"
    few.write_text(f"{first(features)}\n")
    all_files.write_text("".join(f"{path}\n" for path in sorted(features.glob("*.npy"))))
    command = [sys.executable, "-m", "stale_runtime.ray_data"]
    start = _run([*command, few, *options, "-o", work / "ray1"])
    many = _run([*command, all_files, *options, "-o", work / "ray2"])
    count, run = plain
    occupied = (many.wall_s - start.wall_s) * len(os.sched_getaffinity(0))  # Ray's processes are not our children
    return {"ray_start_s": start.wall_s, "ray_s": max(occupied - run.cpu_s, 0) / count}


def _time_listing(path: Path) -> float:
    """Seconds for each line of a listing that a shard reads."""
    path.write_text("".join(f"s3://bucket/folder/video_{n:09}.npy\n" for n in range(LISTED)))
    start = time.process_time()
    with path.open() as lines:
        kept = sum(
            int.from_bytes(hashlib.sha256(Path(line.rstrip()).stem.encode()).digest()[:8]) % 1000 == 0 for line in lines
        )
    assert kept
    return (time.process_time() - start) / LISTED


def _best(runs: Sequence[Used]) -> Used:
    """The one that took least processor time: what disturbs only adds to it."""
    return min(runs, key=lambda used: used.cpu_s)


def _run(command: Sequence[object]) -> Used:
    """Run a command.

    Raises:
        subprocess.CalledProcessError: it failed; 5 (some videos failed) is fine.
    """
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode not in (0, 5):
        raise subprocess.CalledProcessError(done.returncode, str(command[0]))
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Used(wall, used)
