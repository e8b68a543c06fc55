"""A training of the tiny network with ``stale-train``."""

import csv
from collections.abc import Sequence
from pathlib import Path

from stale_model.training.training_files import METRICS
from tests import tiny
from tests.cli import same_process
from tests.cli.same_process import Done

NOT_REPRODUCED = ("seconds", "peak_memory_mb")
EPOCHS = 6


def tiny_training(training_data: Path, clip_folder: Path) -> list[str]:
    """Options enough to train the tiny network, but for where to."""
    return [
        *("--annotations", str(training_data / "annotations.json"), "--features", str(training_data / "features")),
        *("--split", "closed", "--clip", str(clip_folder), "--length", str(tiny.LENGTH), "--batch-size", "4"),
        *("--epochs", str(EPOCHS), "--device", "cpu", "--threads", "1"),
    ]


def run_here(*options: str | Path, cwd: Path) -> Done:
    """Run ``stale-train`` in this process, which has PyTorch loaded already."""
    return same_process.run("stale-train", *options, cwd=cwd)


def metrics(folder: Path) -> list[dict[str, str]]:
    """Rows of the metrics, without what no two runs have in common."""
    rows = list(csv.DictReader((folder / METRICS).read_text().splitlines()))
    return [{name: value for name, value in row.items() if name not in NOT_REPRODUCED} for row in rows]


def fails(options: Sequence[str | Path], cwd: Path, *, code: int, says: str) -> None:
    done = run_here(*options, cwd=cwd)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, (done.returncode, done.stderr)
    assert last.startswith("stale-train: error: "), done.stderr
    assert says in last, done.stderr
    assert done.stdout == ""
