"""DistributedDataParallel with one process, as ``torchrun`` starts it, against a plain training."""

import subprocess
import sys

from stale_model.training.train_request import TrainRequest
from tests.gpu.demo_data import make_train_request, to_options
from tests.gpu.gpu_report import Check, Findings, Table
from tests.gpu.gpu_request import GpuRequest
from tests.gpu.training_check import EpochCost, largest_difference, read_epochs, train_epochs

LIMIT = 5e-3
"""Largest accepted relative difference of an epoch's mean loss: a GPU adds up some gradients in any order."""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")
_LONGEST_S = 180.0


def check_distributed(request: GpuRequest) -> Findings:
    """Train plainly, and in one process of DistributedDataParallel.

    Raises:
        RuntimeError: a training failed.
    """
    place, device = request.workspace, request.device
    plain = train_epochs(make_train_request(request, device=device, precision="32", output=place / "plain"))
    distributed = train_distributed(
        make_train_request(request, device=device, precision="32", output=place / "distributed")
    )
    rows = [("plain", plain), ("DistributedDataParallel", distributed)]
    table = Table(
        headers=("training", "epoch 1", "last epoch", "s an epoch"),
        formats=("", ".6f", ".6f", ".2f"),
        rows=tuple((name, cost.losses[0], cost.losses[-1], cost.seconds) for name, cost in rows),
    )
    difference = largest_difference(plain.losses, distributed.losses)
    return Findings(
        text="The same training in float32, plain and as `torch.distributed.run --nproc-per-node 1 -m stale_model` "
        "starts it: mean losses, with the same dropout.",
        table=table,
        checks=(Check.at_most(LIMIT, "mean loss of an epoch", difference),),
    )


def train_distributed(run: TrainRequest) -> EpochCost:
    """Train in one process that ``torchrun`` starts, and read its metrics.

    Raises:
        RuntimeError: it failed, or took too long.
    """
    command = [sys.executable, *TORCHRUN, "-m", "stale_model", *to_options(run)]
    name = " ".join((*TORCHRUN, "-m stale_model"))
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST_S)
    except subprocess.TimeoutExpired as problem:
        raise RuntimeError(f"{name}: not done after {_LONGEST_S:.0f} s") from problem
    if done.returncode != 0:
        said = done.stderr.splitlines() or ["no message"]
        errors = [line for line in said if "rror" in line]
        raise RuntimeError(f"{name} ended with {done.returncode}: {(errors or said)[0]}")
    return read_epochs(run.output)
