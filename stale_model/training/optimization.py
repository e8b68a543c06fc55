"""One epoch after another: the steps of training, without files and command line."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stale_model.checkpoints.loading import as_weights
from stale_model.checkpoints.own_checkpoint import StaleWithText
from stale_model.data.dataset import StaleDataset, collate
from stale_model.data.targets import Targets
from stale_model.network.stale import TrainingOutputs
from stale_model.training.hardware import gpu_utilization
from stale_model.training.losses import Losses, LossWeights, stale_loss
from stale_runtime.errors import CheckpointError, FeatureError

Batch = tuple[Tensor, Targets]
Progress = Callable[[int, int, float], None]
"""Told the steps done in this epoch, the steps of an epoch, and the last loss."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train. The original's: batch 100, learning rate 4e-5, 5 epochs, step decay."""

    epochs: int = 12
    """Passes over the training videos."""
    batch_size: int = 32
    """Videos a step, over all processes."""
    learning_rate: float = 2e-4
    """At the start; it decays along a cosine to 0."""
    weight_decay: float = 0.02
    """Of AdamW."""
    length: int = 100
    """T, in snippets."""
    seed: int = 0
    """Of weights, order and dropout."""
    freeze_text: bool = False
    """Whether the text tower stays as it is; prompts are then embedded once."""
    workers: int = 0
    """Processes that read features; 0 reads between the steps."""
    weights: LossWeights = field(default_factory=LossWeights)
    """Of the terms of the loss."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if not 0 < self.learning_rate < 1 or not 0 <= self.weight_decay < 1:
            raise ValueError(f"learning_rate {self.learning_rate}, weight_decay {self.weight_decay}: expected below 1")


class EpochResult(NamedTuple):
    """What an epoch gave."""

    losses: Mapping[str, float]
    """Mean of each term over the steps."""
    seconds: float
    gpu_percent: float | None
    """Median utilization of the GPU over the steps, where there is one and it tells."""


class Trainee(nn.Module):
    """Network and text tower, as one step runs them."""

    def __init__(self, model: StaleWithText, *, freeze_text: bool) -> None:
        super().__init__()
        self.model = model
        self.freeze_text = freeze_text
        if freeze_text:
            model.tower.requires_grad_(False)

    def forward(self, features: Tensor, prompts: Tensor) -> TrainingOutputs:
        """Compute all outputs.

        Args:
            features: (B, T, C)
            prompts: (K, L) token ids, or (K, C) embeddings where the text tower is frozen.
        """
        embeddings = prompts if self.freeze_text else self.model.tower(prompts)
        outputs: TrainingOutputs = self.model.network(features, self.model.network.with_background(embeddings))
        return outputs


class Optimization:
    """A model with its optimizer on its device, and the place in the schedule."""

    def __init__(self, fabric: Fabric, model: StaleWithText, token_ids: Tensor, config: TrainingConfig) -> None:
        """Move everything to where it is trained.

        Args:
            fabric: launched; knows devices, processes and precision.
            model: network and text tower.
            token_ids: (K, L) of the training prompts.
            config: how to train.
        """
        trainee = Trainee(model, freeze_text=config.freeze_text)
        trained = [parameter for parameter in trainee.parameters() if parameter.requires_grad]
        self.raw_optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._fabric = fabric
        self._config = config
        self._model, self._optimizer = fabric.setup(trainee, self.raw_optimizer)
        ids = fabric.to_device(token_ids)
        if config.freeze_text:
            with torch.no_grad():
                self._prompts = model.tower.eval()(ids)
        else:
            self._prompts = ids
        self._trainee = trainee

    def epoch(self, dataset: StaleDataset, number: int, progress: Progress) -> EpochResult:
        """Train on every video once.

        Args:
            dataset: the training videos.
            number: of the epoch, from 0; decides the order, which does not depend on how many processes share it.
            progress: told after each step.

        Raises:
            FeatureError: a feature file holds what no network should see.
        """
        config, fabric = self._config, self._fabric
        batches = epoch_batches(len(dataset), config.batch_size, config.seed, number)
        mine = [share(batch, fabric.global_rank, fabric.world_size) for batch in batches]
        loader = DataLoader(dataset, batch_sampler=mine, collate_fn=collate, num_workers=config.workers)
        loaded = cast("Iterable[Batch]", fabric.setup_dataloaders(loader, use_distributed_sampler=False))
        self._trainee.train()
        if config.freeze_text:
            self._trainee.model.tower.eval()
        torch.manual_seed(_dropout_seed(config.seed, number, fabric.global_rank))
        sums = torch.zeros(len(Losses._fields))
        utilization: list[float] = []
        started = time.perf_counter()
        for step, (features, targets) in enumerate(_on_one_line(loaded)):
            self._set_rate((number * len(batches) + step) / (config.epochs * len(batches)))
            outputs = self._model(features, self._prompts)
            losses = stale_loss(*self._whole_batch(outputs, targets, len(batches[step])), config.weights)
            fabric.backward(losses.total)
            self._optimizer.step()
            self._optimizer.zero_grad()
            terms = torch.stack([term.detach().float() for term in losses]).cpu()
            sums += terms
            if (percent := gpu_utilization(fabric.device)) is not None:
                utilization.append(percent)
            progress(step + 1, len(batches), float(terms[0]))
        means = dict(zip(Losses._fields, (sums / len(batches)).tolist(), strict=True))
        percent = statistics.median(utilization) if utilization else None
        return EpochResult(means, time.perf_counter() - started, percent)

    def state(self) -> dict[str, Any]:
        """What a resumed training needs beside the weights; plain values and tensors only."""
        return {"optimizer": self.raw_optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Continue from a saved state.

        Args:
            state: as ``state`` gave it.
            path: of the file that it is from, for messages.

        Raises:
            CheckpointError: it is not of this optimizer.
        """
        moments = _moments(state)
        ours = self.raw_optimizer.state_dict()
        trained = self.raw_optimizer.param_groups[0]["params"]
        expected = [{"step": (), "exp_avg": tuple(p.shape), "exp_avg_sq": tuple(p.shape)} for p in trained]
        if [_shapes(moments.get(n)) for n in range(len(moments))] != expected:
            raise CheckpointError(f"{path}: its optimizer is of other parameters; train without --resume")
        for number, entry in moments.items():
            for name, tensor in entry.items():
                as_weights(tensor, f"{name} of parameter {number}", path)
        self.raw_optimizer.load_state_dict({**ours, "state": moments})  # our own settings, which are the same

    def _whole_batch(self, outputs: TrainingOutputs, targets: Targets, videos: int) -> tuple[TrainingOutputs, Targets]:
        """Outputs and targets of all processes together, as a batch of so many videos in its own order.

        The loss is no mean over videos, so every process takes it of the whole batch. Gathering sums the gradients over
        the processes, and DistributedDataParallel averages the parameters': together the gradient of that one loss.
        """
        if self._fabric.world_size == 1:
            return outputs, targets

        def whole(part: Tensor) -> Tensor:
            gathered = self._fabric.all_gather(part, sync_grads=part.requires_grad)  # (processes, share, ...)
            assert isinstance(gathered, Tensor)
            return gathered.transpose(0, 1).flatten(0, 1)[:videos]

        return TrainingOutputs(*map(whole, outputs)), Targets(*map(whole, targets))

    def _set_rate(self, done: float) -> None:
        for group in self.raw_optimizer.param_groups:
            group["lr"] = self._config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def epoch_batches(videos: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The videos of each step, in a seeded order of their own for every epoch.

    A last batch that is less than half full joins the one before.
    """
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order: list[int] = torch.randperm(videos, generator=generator).tolist()
    batches = [order[start : start + batch_size] for start in range(0, videos, batch_size)]
    if len(batches) > 1 and len(batches[-1]) < batch_size / 2:
        rest = batches.pop()
        batches[-1] += rest
    return batches


def share(batch: Sequence[int], rank: int, processes: int) -> list[int]:
    """A process's videos of a batch: every so-maniest, as many as any other process has.

    Where they do not come out even, the batch's first video fills up; ``_whole_batch`` drops it again.
    """
    mine = list(batch[rank::processes])
    return mine + [batch[0]] * (math.ceil(len(batch) / processes) - len(mine))


def _moments(state: object) -> dict[Any, Any]:
    """What a saved optimizer knows of each parameter; nothing where a file holds something else."""
    optimizer = state.get("optimizer") if isinstance(state, dict) else None
    moments = optimizer.get("state") if isinstance(optimizer, dict) else None
    return moments if isinstance(moments, dict) else {}


def _shapes(entry: object) -> dict[Any, tuple[int, ...] | None]:
    """The shapes of tensors by name; None for what is no tensor."""
    items = entry.items() if isinstance(entry, dict) else ()
    return {name: tuple(value.shape) if isinstance(value, Tensor) else None for name, value in items}


def _on_one_line(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches; the error of a process that reads them comes without its traceback."""
    try:
        yield from batches
    except FeatureError as problem:
        raise FeatureError(str(problem).strip().rpartition("FeatureError: ")[2]) from problem


def _dropout_seed(seed: int, epoch: int, rank: int) -> int:
    """One for every epoch and process, so that a resumed training draws what an unbroken one does."""
    return (seed * 100_003 + epoch) * 10_007 + rank
