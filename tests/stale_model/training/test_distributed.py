"""Two processes over gloo train as one does."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
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


def test_two_nodes_end_together_and_go_on(training_data: Path, clip_folder: Path, tmp_path: Path) -> None:
    options: list[str | Path] = [
        *("--annotations", training_data / "annotations.json", "--features", training_data / "features"),
        *("--split", "closed", "--clip", clip_folder, "--length", str(tiny.LENGTH), "--batch-size", "5"),
        *("--device", "cpu", "--threads", "1", "--cache-features", tmp_path / "cache"),
    ]
    nodes = start_two_nodes([*options, "--epochs", "1000000", "-o", tmp_path / "out"], tmp_path)
    printed = nodes[0].stdout
    assert printed is not None
    for _line in range(4):
        printed.readline()  # the header, a line, and two epochs
    ranks = {rank: pid for pid, rank in processes_of(nodes)}
    os.kill(ranks[1], signal.SIGKILL)
    said = [node.communicate(timeout=60)[1] for node in nodes]
    assert all(node.returncode for node in nodes)
    assert "stale-train: error: another process of this training has ended, see its messages; the last " in said[0]
    torch.load(tmp_path / "out" / LAST, weights_only=True)
    assert not list((tmp_path / "out").glob(".*"))
    done = len((tmp_path / "out" / METRICS).read_text().splitlines())  # with the header, so one more than are done
    again = [*options, "--epochs", str(done), "-o", tmp_path / "out", "--resume"]
    for node in start_two_nodes(again, tmp_path):
        _out, errors = node.communicate(timeout=120)
        assert node.returncode == 0, errors
    assert len((tmp_path / "out" / METRICS).read_text().splitlines()) == done + 1


def start_two_nodes(options: Sequence[str | Path], folder: Path) -> "list[subprocess.Popen[str]]":
    """``torchrun`` on two addresses of this machine, as on two nodes, with a process each."""
    launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    launcher += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "two"]
    return [
        subprocess.Popen(
            [sys.executable, *launcher, "--local-addr", address, "-m", "stale_model", *map(str, options)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for address in ("127.0.0.1", "127.0.0.2")
    ]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def processes_of(nodes: "Sequence[subprocess.Popen[str]]") -> Iterator[tuple[int, int]]:
    """The id and the rank of each process that trains."""
    for node in nodes:
        for child in Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split():
            if (match := re.search(rb"(?:^|\0)RANK=(\d+)", Path(f"/proc/{child}/environ").read_bytes())) is not None:
                yield int(child), int(match[1])


@pytest.mark.parametrize(("videos", "processes"), [(6, 2), (5, 2), (7, 3), (2, 4), (1, 3)])
def test_shares_interleave_to_the_batch(videos: int, processes: int) -> None:
    batch = list(range(10, 10 + videos))
    shares = [take_share(batch, rank, processes) for rank in range(processes)]
    assert len({len(one) for one in shares}) == 1
    together = [video for column in zip(*shares, strict=True) for video in column]
    assert together[:videos] == batch
    assert set(together[videos:]) <= {batch[0]}
