"""Epochs on the device in float32 and bf16, through ``stale-train``'s own code, against the CPU's in float32."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stale_model.checkpoints.clip import TextTower, read_clip_parts, read_tower
from stale_model.checkpoints.own_checkpoint import StaleWithText
from stale_model.data.dataset import StaleDataset, select_videos
from stale_model.network.config import StaleConfig
from stale_model.network.stale import Stale
from stale_model.training.epoch_steps import EpochTrainer
from stale_model.training.hardware import make_fabric
from stale_model.training.run_training import run_training
from stale_model.training.train_request import TrainRequest
from stale_model.training.training_files import METRICS
from stale_model.training.training_loop import tokenize
from stale_runtime.evaluation.ground_truth import read_ground_truth
from tests.gpu.demo_data import make_train_request
from tests.gpu.gpu_report import Cell, Check, Findings, Table
from tests.gpu.gpu_request import GpuRequest

NAME = "make gpu"
STEP_LIMITS = {"32": 0.01, "bf16": 0.05}
"""Largest accepted relative difference of a step's loss, without dropout; each step starts from weights that differ a
little more than the step's before."""
EPOCH_LIMIT = 0.15
"""Largest accepted relative difference of an epoch's mean loss: every device draws its own dropout."""


@dataclass(frozen=True, kw_only=True)
class EpochCost:
    """Rows of ``metrics.csv``."""

    losses: tuple[float, ...]
    """Mean loss of each epoch."""
    seconds: float
    """Of the last epoch."""
    peak_memory_mb: float
    gpu_percent: float | None


def check_training(request: GpuRequest) -> Findings:
    """Train on the CPU in float32 and on the device in both precisions, step by step and for whole epochs."""
    runs = {
        "reference": make_train_request(request, device="cpu", precision="32", output=request.workspace / "reference"),
        **{
            precision: make_train_request(
                request, device=request.device, precision=precision, output=request.workspace / precision
            )
            for precision in STEP_LIMITS
        },
    }
    costs = {name: train_epochs(run) for name, run in runs.items()}
    steps = {name: step_losses(run, request.sizes.compared_steps) for name, run in runs.items()}
    rows: list[tuple[Cell, ...]] = []
    checks: list[Check] = []
    for name, run in runs.items():
        cost, difference = costs[name], largest_difference(steps["reference"], steps[name])
        rows.append(
            (
                *("GPU" if run.device == "cuda" else "CPU", run.precision, difference, cost.losses[0], cost.losses[-1]),
                *(cost.seconds, cost.peak_memory_mb if run.device == "cuda" else None, cost.gpu_percent),
            )
        )
        if name != "reference":
            checks += checks_of_training(name, difference, costs["reference"].losses, cost.losses)
    return Findings(text=_describe(request), table=_table(rows), checks=tuple(checks))


def checks_of_training(
    precision: str, difference: float, expected: Sequence[float], found: Sequence[float]
) -> list[Check]:
    """What must hold of the steps' and the epochs' losses."""
    return [
        Check.at_most(STEP_LIMITS[precision], f"{precision}: loss of the first steps", difference),
        Check.at_most(EPOCH_LIMIT, f"{precision}: mean loss of an epoch", largest_difference(expected, found)),
    ]


def largest_difference(expected: Sequence[float], found: Sequence[float]) -> float:
    """Largest relative difference of two equally long series; NaN if there is one in either."""
    first, second = np.array(expected), np.array(found)
    return float(np.max(np.abs(second - first) / np.abs(first)))


def step_losses(run: TrainRequest, steps: int) -> list[float]:
    """Losses of the first steps of a training without dropout.

    The initial weights, the videos and their order are the same on every device.
    """
    fabric = make_fabric(run.device, run.precision)
    fabric.launch()
    clip = read_clip_parts(run.clip)
    truth = read_ground_truth(run.annotations, subset=run.train_subset)
    classes = tuple(sorted(truth.labels))
    C, T = clip.text_config.projection_dim or 0, run.config.length
    samples = select_videos(truth, run.features, classes, channels=C).samples[: steps * run.config.batch_size]
    trainer = EpochTrainer(fabric, _model_without_dropout(run), tokenize(clip, classes), run.config)
    losses: list[float] = []
    dataset = StaleDataset(samples, classes, channels=C, length=T)
    trainer.train_epoch(dataset, 0, lambda _done, _of, loss: losses.append(loss))
    return losses


def _model_without_dropout(run: TrainRequest) -> StaleWithText:
    clip = read_clip_parts(run.clip)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.config.seed)
        tower = read_tower(run.clip, clip.text_config) or TextTower(clip.text_config)
        config = StaleConfig(
            channels=clip.text_config.projection_dim or 0,
            temporal_scale=run.config.length,
            attention_dropout=0,
            embedding_dropout=0,
            adaptation_dropout=0,
            foreground_dropout=0,
        )
        return StaleWithText(Stale(config), tower)


def train_epochs(run: TrainRequest) -> EpochCost:
    """Train as ``stale-train`` does, and read what it wrote of each epoch."""
    if run.device == "cuda":
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats()
    run_training(run, NAME)
    return read_epochs(run.output)


def read_epochs(folder: Path) -> EpochCost:
    """Read the ``metrics.csv`` of a training."""
    header, *lines = (folder / METRICS).read_text().splitlines()
    rows: list[Mapping[str, str]] = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    last = rows[-1]
    return EpochCost(
        losses=tuple(float(row["total"]) for row in rows),
        seconds=float(last["seconds"]),
        peak_memory_mb=float(last["peak_memory_mb"]),
        gpu_percent=float(last["gpu_percent"]) if last["gpu_percent"] else None,
    )


def _table(rows: Sequence[tuple[Cell, ...]]) -> Table:
    headers = (
        "on",
        "precision",
        "loss of first steps",
        "epoch 1",
        "last epoch",
        "s an epoch",
        "GPU memory MB",
        "GPU %",
    )
    return Table(headers=headers, formats=("", "", ".1e", ".4f", ".4f", ".2f", ".0f", ".0f"), rows=tuple(rows))


def _describe(request: GpuRequest) -> str:
    sizes = request.sizes
    tower = "of the size of CLIP ViT-B/32, with random weights" if sizes.full_tower else "of the demo"
    return (
        f"Made-up features of the demo's timelines ({sizes.videos} videos), batches of {sizes.batch_size}, "
        f"T={sizes.length}, a text tower {tower}, all weights trained. First steps: largest relative difference of "
        f"the loss of {sizes.compared_steps} steps from the CPU's, without dropout. Epochs: the mean loss of "
        "stale-train, with dropout, which every device draws for itself."
    )
