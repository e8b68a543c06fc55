"""Training from data on disk to ``best.pth``, resumable at every epoch."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from stale_model.clip import ClipParts, text_encoder_spec
from stale_model.dataset import StaleDataset, VideoSample
from stale_model.hardware import peak_memory_mb
from stale_model.loading import load_plain
from stale_model.own_checkpoint import StaleWithText, pack_checkpoint, refuse_misfits, serialize, unpack_checkpoint
from stale_model.training import Optimization, Progress, TrainingConfig
from stale_model.validation import validate
from stale_runtime.errors import CheckpointError
from stale_runtime.files import write_whole
from stale_runtime.text_encoder import PROMPT_TEMPLATE, Tokenizer

BEST, LAST, METRICS, CURVES = "best.pth", "last.pth", "metrics.csv", "curves.png"
_KEPT = {"format_version", "training", "state_dict", "state", "history"}


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What to train on."""

    train: tuple[VideoSample, ...]
    validation: tuple[VideoSample, ...]
    """Videos of the same classes; they choose the best epoch. May be empty: then the lowest loss does."""
    classes: tuple[str, ...]
    """The classes that are trained, none of the unseen ones."""
    split: str
    """Name of the split."""
    unseen: tuple[VideoSample, ...] = ()
    """Videos of the unseen classes: looked at once, when the best epoch is chosen."""
    unseen_classes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A row of the metrics."""

    epoch: int
    """From 1."""
    total: float
    classification: float
    masks: float
    foreground: float
    consistency: float
    validation_map: float | None
    """Average mAP in [0, 1]; None without validation videos."""
    seconds: float
    """Of training, without validation."""
    peak_memory_mb: float
    """Of the process, or of the GPU if there is one."""
    gpu_percent: float | None
    """Median utilization of the GPU; None without one."""

    @property
    def merit(self) -> float:
        """What the best epoch is chosen by; higher is better."""
        return -self.total if self.validation_map is None else self.validation_map


def train(
    fabric: Fabric,
    model: StaleWithText,
    clip: ClipParts,
    data: TrainingData,
    config: TrainingConfig,
    folder: Path,
    *,
    resume: bool,
    on_start: Callable[[int], None],
    on_epoch: Callable[[Epoch], None],
    progress: Progress,
) -> list[Epoch]:
    """Train, writing ``best.pth``, ``last.pth``, ``metrics.csv`` and ``curves.png`` after every epoch.

    Args:
        fabric: launched.
        model: network and text tower with their initial weights.
        clip: configuration and tokenizer of the tower.
        data: videos and classes.
        config: how to train.
        folder: where the files go; it exists.
        resume: go on from ``last.pth`` in the folder.
        on_start: told how many epochs were done before.
        on_epoch: told after each epoch.
        progress: told after each step.

    Returns:
        All epochs, those before a resumption included.

    Raises:
        CheckpointError: ``last.pth`` is missing or of another training.
        FeatureError: a feature file holds what no network should see.
        OSError: a file cannot be written; the last complete ones stand.
    """
    token_ids = tokenize(clip, data.classes)
    description = _description(data, config)
    history: list[Epoch] = []
    saved = _read_last(folder / LAST, model, clip, description) if resume else None
    if saved is not None:
        model.load_state_dict(saved["state_dict"])
    optimization = Optimization(fabric, model, token_ids, config)
    if saved is not None:
        optimization.restore(saved["state"])
        history = [Epoch(**row) for row in saved["history"]]
    del saved
    on_start(len(history))
    dataset = StaleDataset(data.train, data.classes, channels=model.network.config.channels, length=config.length)
    for number in range(len(history), config.epochs):
        result = optimization.epoch(dataset, number, progress)
        score = None
        if data.validation and fabric.is_global_zero:
            score = validate(model, data.validation, data.classes, token_ids, config.length)
        epoch = Epoch(
            epoch=number + 1,
            validation_map=score,
            seconds=result.seconds,
            peak_memory_mb=peak_memory_mb(fabric.device),
            gpu_percent=result.gpu_percent,
            **result.losses,
        )
        history.append(epoch)
        if fabric.is_global_zero:
            _save(folder, model, clip, data, description, history, optimization)
            on_epoch(epoch)
        fabric.barrier()
    return history


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch that ``best.pth`` is of: the first of the best."""
    return max(history, key=lambda epoch: epoch.merit)


def unseen_map(data: TrainingData, folder: Path, length: int, device: torch.device) -> float | None:
    """Average mAP of ``best.pth`` on the videos of the unseen classes, in [0, 1]; None without any.

    Args:
        data: videos and classes.
        folder: of the finished training.
        length: T, in snippets.
        device: where to compute.

    Raises:
        CheckpointError: ``best.pth`` cannot be read.
        FeatureError: a feature file holds what no network should see.
    """
    if not data.unseen:
        return None
    path = folder / BEST
    model, clip, _ = unpack_checkpoint(load_plain(path).content, path)
    token_ids = tokenize(clip, data.unseen_classes)
    return validate(model.to(device), data.unseen, data.unseen_classes, token_ids, length)


def tokenize(clip: ClipParts, classes: Sequence[str]) -> Tensor:
    """Token ids of the classes' prompts: (K, L).

    Raises:
        CheckpointError: the tokenizer is not CLIP's.
        PromptError: a class name is too long.
    """
    spec = text_encoder_spec(clip)
    return torch.from_numpy(Tokenizer(clip.tokenizer_json, spec)([PROMPT_TEMPLATE.replace("{}", c) for c in classes]))


def _save(
    folder: Path,
    model: StaleWithText,
    clip: ClipParts,
    data: TrainingData,
    description: Mapping[str, Any],
    history: Sequence[Epoch],
    optimization: Optimization,
) -> None:
    content = pack_checkpoint(model, clip, data.classes, {**description, "epochs_done": len(history)})
    if best_epoch(history) is history[-1]:
        write_whole(folder / BEST, serialize(content))
    rows = [asdict(epoch) for epoch in history]
    write_whole(folder / LAST, serialize({**content, "state": optimization.state(), "history": rows}))
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / METRICS, table.getvalue().encode())
    write_whole(folder / CURVES, _curves(history))


def _description(data: TrainingData, config: TrainingConfig) -> dict[str, Any]:
    """How a training is done, in plain values; two trainings of one description are the same."""
    settings = asdict(config)
    del settings["workers"]  # changes nothing but the time
    return {
        "config": settings,
        "split": data.split,
        "seed": config.seed,
        "videos": sorted(sample.video for sample in data.train),
        "validation_videos": sorted(sample.video for sample in data.validation),
    }


def _read_last(path: Path, model: StaleWithText, clip: ClipParts, description: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``last.pth``, which has to be of this training."""
    if not path.exists():
        raise CheckpointError(f"{path}: nothing to resume; train without --resume")
    content = load_plain(path).content
    if not isinstance(content, dict) or not content.keys() >= _KEPT:
        raise CheckpointError(f"{path}: not a checkpoint to resume from; train without --resume, in another folder")
    for key, value in description.items():
        if difference := _difference(content["training"].get(key), value, key):
            raise CheckpointError(f"{path}: {difference}; give the options that it was begun with, or another folder")
    refuse_misfits(model.network.config, clip.text_config, content["state_dict"], path)
    if any(row.keys() != {field.name for field in fields(Epoch)} for row in content["history"]):
        raise CheckpointError(f"{path}: of another version of stale-edge; train without --resume, in another folder")
    return content


def _difference(before: object, now: object, name: str) -> str | None:
    """What differs first between two plain values, in words, or None."""
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        return next(filter(None, (_difference(before[key], now[key], key) for key in now)), None)
    if before == now:
        return None
    if isinstance(now, list) or isinstance(before, list):
        return f"begun with other {name.replace('_', ' ')}"
    return f"begun with {name.replace('_', ' ')} {before}, now {now}"


def _curves(history: Sequence[Epoch]) -> bytes:
    """A picture of loss and validation mAP over the epochs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, loss_axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    epochs = [epoch.epoch for epoch in history]
    loss_axis.plot(epochs, [epoch.total for epoch in history], "o-", color="tab:blue")
    loss_axis.set_xlabel("epoch")
    loss_axis.set_ylabel("training loss", color="tab:blue")
    if history[-1].validation_map is not None:
        map_axis = loss_axis.twinx()
        map_axis.plot(epochs, [100 * (epoch.validation_map or 0) for epoch in history], "s-", color="tab:orange")
        map_axis.set_ylabel("validation mAP, %", color="tab:orange")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    pyplot.close(figure)
    return buffer.getvalue()
