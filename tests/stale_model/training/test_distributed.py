"""Two processes over gloo train as one does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stale_model.training.epoch_steps import take_share
from stale_model.training.training_files import BEST, LAST, METRICS
from tests import tiny
from tests.stale_model.two_processes import train_tiny


@pytest.fixture(scope="module")
def trained(training_data: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What two processes left in ``two``, the command in ``out``, and what was printed."""
    folder = tmp_path_factory.mktemp("distributed")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options: list[str | Path] = [
        *("--annotations", training_data / "annotations.json", "--features", training_data / "features"),
        *("--split", "closed", "--clip", clip_folder, "--length", str(tiny.LENGTH), "--batch-size", "5"),
        *("--epochs", "2", "--device", "cpu", "-o", folder / "out"),
    ]
    arguments = [training_data, clip_folder, folder / "two", *options]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "tests.stale_model.two_processes", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_two_processes_minimise_the_loss_of_the_whole_batch(
    training_data: Path, clip_folder: Path, tmp_path: Path, trained: tuple[Path, str]
) -> None:
    folder, printed = trained
    with torch.random.fork_rng():
        one = train_tiny(training_data, clip_folder, tmp_path / "one")
    np.testing.assert_allclose(json.loads(printed.splitlines()[0]), one, rtol=1e-4)
    first, second = (
        torch.load(place / LAST, weights_only=True)["state_dict"] for place in (tmp_path / "one", folder / "two")
    )
    for name, weights in first.items():
        if not name.endswith("bias"):  # a key's bias has no gradient but rounding, which the optimizer takes as large
            torch.testing.assert_close(second[name], weights, atol=1e-4, rtol=1e-3, msg=name)


def test_the_command_trains_in_two_processes(trained: tuple[Path, str]) -> None:
    folder, printed = trained
    assert (printed.count("masks"), printed.count("seed")) == (1, 1), printed  # each table once
    assert torch.load(folder / "out" / BEST, weights_only=True)["training"]["epochs_done"] in (1, 2)
    assert len((folder / "out" / METRICS).read_text().splitlines()) == 3


@pytest.mark.parametrize(("videos", "processes"), [(6, 2), (5, 2), (7, 3), (2, 4), (1, 3)])
def test_shares_interleave_to_the_batch(videos: int, processes: int) -> None:
    batch = list(range(10, 10 + videos))
    shares = [take_share(batch, rank, processes) for rank in range(processes)]
    assert len({len(one) for one in shares}) == 1
    together = [video for column in zip(*shares, strict=True) for video in column]
    assert together[:videos] == batch
    assert set(together[videos:]) <= {batch[0]}
