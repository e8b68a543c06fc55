"""The steps of an epoch: batches, loss, optimizer, and the processes that share them."""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stale_model.checkpoints.loading import as_weights
from stale_model.checkpoints.own_checkpoint import StaleWithText
from stale_model.data.dataset import StaleDataset, collate
from stale_model.data.targets import Targets
from stale_model.network.stale import TrainingOutputs
from stale_model.training.hardware import gpu_utilization
from stale_model.training.losses import Losses, stale_loss
from stale_model.training.training_config import TrainingConfig
from stale_runtime.errors import BackendError, CheckpointError, FeatureError
from stale_runtime.system.files import reason

Batch = tuple[Tensor, Targets]
Arrays = tuple[NDArray[Any], ...]
"""Features and targets of a batch, in the order of ``collate``."""
Progress = Callable[[int, int, float], None]
"""Called with the number of steps done in this epoch, the steps of an epoch, and the last loss."""


class EpochResult(NamedTuple):
    """Losses and cost of an epoch."""

    losses: Mapping[str, float]
    """Mean of each term over the steps."""
    seconds: float
    gpu_percent: float | None
    """Median utilization of the GPU over the steps; None if it is not known."""


class _StepModule(nn.Module):
    """Network and text tower with the forward pass of a step."""

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
            prompts: (K, L) token ids, or (K, C) embeddings if the text tower is frozen.
        """
        embeddings = prompts if self.freeze_text else self.model.tower(prompts)
        outputs: TrainingOutputs = self.model.network(features, self.model.network.with_background(embeddings))
        return outputs


class EpochTrainer:
    """Trains a model epoch by epoch on the device of its fabric."""

    def __init__(self, fabric: Fabric, model: StaleWithText, token_ids: Tensor, config: TrainingConfig) -> None:
        """Move model and prompts to the device.

        Args:
            fabric: a fabric that was launched.
            model: network and text tower.
            token_ids: (K, L) of the training prompts.
            config: how to train.
        """
        module = _StepModule(model, freeze_text=config.freeze_text)
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.raw_optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._fabric = fabric
        self._config = config
        self._model, self._optimizer = fabric.setup(module, self.raw_optimizer)
        ids = fabric.to_device(token_ids)
        if config.freeze_text:
            with torch.no_grad():
                self._prompts = model.tower.eval()(ids)
        else:
            self._prompts = ids
        self._module = module

    def train_epoch(self, dataset: StaleDataset, number: int, progress: Progress) -> EpochResult:
        """Train on every video once.

        Args:
            dataset: the training videos.
            number: number of the epoch, from 0; decides the order of the videos, also for other numbers of processes.
            progress: called after each step.

        Raises:
            FeatureError: a feature file can no longer be read, or now contains NaN or infinity.
            BackendError: the processes of ``config.workers`` cannot be started, or one of them was killed.
        """
        config, fabric = self._config, self._fabric
        batches = epoch_batches(len(dataset), config.batch_size, config.seed, number)
        own_batches = [take_share(batch, fabric.global_rank, fabric.world_size) for batch in batches]
        loader = DataLoader(dataset, batch_sampler=own_batches, collate_fn=collate_arrays, num_workers=config.workers)
        loaded = cast("Iterable[Arrays]", fabric.setup_dataloaders(loader, use_distributed_sampler=False))
        self._module.train()
        if config.freeze_text:
            self._module.model.tower.eval()
        torch.manual_seed(_dropout_seed(config.seed, number, fabric.global_rank))
        sums = torch.zeros(len(Losses._fields))
        utilization: list[float] = []
        started = time.perf_counter()
        for step, arrays in enumerate(_with_short_errors(loaded, workers=config.workers)):
            self._set_learning_rate(number + step / len(batches))
            features, targets = self._batch(arrays)
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
        """The optimizer's state, which a resumed training needs besides the weights; plain values and tensors only."""
        return {"optimizer": self.raw_optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Continue from a saved state.

        Args:
            state: as ``state`` returned it.
            path: path of the file that it is from, for messages.

        Raises:
            CheckpointError: it does not fit this optimizer.
        """
        moments = _moments(state)
        ours = self.raw_optimizer.state_dict()
        trained = self.raw_optimizer.param_groups[0]["params"]
        expected = [{"step": (), "exp_avg": tuple(p.shape), "exp_avg_sq": tuple(p.shape)} for p in trained]
        if [_shapes(moments.get(n)) for n in range(len(moments))] != expected:
            raise CheckpointError(f"{path}: its optimizer belongs to other parameters; train without --resume")
        for number, entry in moments.items():
            for name, tensor in entry.items():
                as_weights(tensor, f"{name} of parameter {number}", path)
        self.raw_optimizer.load_state_dict({**ours, "state": moments})  # our settings, which read_last has compared

    def _whole_batch(self, outputs: TrainingOutputs, targets: Targets, videos: int) -> tuple[TrainingOutputs, Targets]:
        """Outputs and targets of all processes, as one batch in its original order.

        The loss is not a mean over videos, so each process computes it on the whole batch. Gathering sums the gradients
        over the processes, and DistributedDataParallel averages those of the parameters; together they are the gradient
        of that one loss.

        Args:
            outputs: outputs of this process.
            targets: targets of the same videos.
            videos: number of videos in the whole batch.
        """
        if self._fabric.world_size == 1:
            return outputs, targets

        def whole(part: Tensor) -> Tensor:
            gathered = self._fabric.all_gather(part, sync_grads=part.requires_grad)  # (processes, share, ...)
            assert isinstance(gathered, Tensor)
            return gathered.transpose(0, 1).flatten(0, 1)[:videos]

        return TrainingOutputs(*map(whole, outputs)), Targets(*map(whole, targets))

    def _batch(self, arrays: Arrays) -> Batch:
        features, *targets = (self._fabric.to_device(torch.from_numpy(array)) for array in arrays)
        return features, Targets(*targets)

    def _set_learning_rate(self, epochs_done: float) -> None:
        for group in self.raw_optimizer.param_groups:
            group["lr"] = learning_rate(self._config, epochs_done)


def learning_rate(config: TrainingConfig, epochs_done: float) -> float:
    """The learning rate after so many epochs; it falls along a cosine to 0 at the end of ``config.epochs``."""
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * epochs_done / config.epochs))


def epoch_batches(videos: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The videos of each step, in a new seeded order every epoch.

    If the last batch is less than half full, it is merged into the one before.
    """
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order: list[int] = torch.randperm(videos, generator=generator).tolist()
    batches = [order[start : start + batch_size] for start in range(0, videos, batch_size)]
    if len(batches) > 1 and len(batches[-1]) < batch_size / 2:
        rest = batches.pop()
        batches[-1] += rest
    return batches


def take_share(batch: Sequence[int], rank: int, processes: int) -> list[int]:
    """The videos of a batch that one process computes: every n-th; each process gets the same number.

    If they do not divide evenly, the batch's first video is repeated; ``_whole_batch`` drops the copies.
    """
    own = list(batch[rank::processes])
    return own + [batch[0]] * (math.ceil(len(batch) / processes) - len(own))


def _moments(state: object) -> dict[Any, Any]:
    """A saved optimizer's moments by parameter; empty if the file contains something else."""
    optimizer = state.get("optimizer") if isinstance(state, dict) else None
    moments = optimizer.get("state") if isinstance(optimizer, dict) else None
    return moments if isinstance(moments, dict) else {}


def _shapes(entry: object) -> dict[Any, tuple[int, ...] | None]:
    """The shapes of tensors by name; None for values that are not tensors."""
    items = entry.items() if isinstance(entry, dict) else ()
    return {name: tuple(value.shape) if isinstance(value, Tensor) else None for name, value in items}


def collate_arrays(videos: Sequence[tuple[Tensor, Targets]]) -> Arrays:
    """Stack videos into arrays. Processes that read them send arrays through a pipe, but tensors through shared memory.

    In a container that is often 64 MB, and PyTorch waits for ever for a batch that did not fit.
    """
    features, targets = collate(videos)
    return tuple(part.numpy() for part in (features, *targets))


def _with_short_errors(batches: Iterable[Arrays], *, workers: int) -> Iterator[Arrays]:
    """The same batches; errors of the processes that read them become one line.

    Raises:
        FeatureError: a feature file can no longer be read.
        BackendError: the processes cannot be started, or one of them was killed.
    """
    remedy = f"--workers {workers}: {{}}; give --workers 0, which reads features between the steps"
    try:
        if workers:
            multiprocessing.Lock()  # fails where the processes could not be started
        yield from batches
    except OSError as problem:  # the semaphores of the processes lie in /dev/shm, which may be full
        if not workers:
            raise
        raise BackendError(remedy.format(f"no process can be started (/dev/shm: {reason(problem)})")) from problem
    except FeatureError as problem:
        raise FeatureError(str(problem).strip().rpartition("FeatureError: ")[2]) from problem
    except RuntimeError as problem:
        if not workers or "DataLoader worker" not in str(problem):
            raise
        raise BackendError(remedy.format("a process that reads features was killed, maybe to free memory")) from problem


def _dropout_seed(seed: int, epoch: int, rank: int) -> int:
    """A seed for each epoch and process, so that a resumed training equals an uninterrupted one."""
    return (seed * 100_003 + epoch) * 10_007 + rank
