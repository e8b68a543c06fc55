"""Running all epochs of a training, from data on disk to ``best.pth``; it can be resumed after each epoch."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from stale_model.checkpoints.clip import ClipParts, text_encoder_spec
from stale_model.checkpoints.loading import load_plain
from stale_model.checkpoints.own_checkpoint import (
    NO_FEATURES,
    StaleWithText,
    TrainedFeatures,
    pack_checkpoint,
    unpack_checkpoint,
)
from stale_model.data.dataset import StaleDataset, VideoSample
from stale_model.data.feature_cache import FeatureCache
from stale_model.data.train_ids import TrainIds
from stale_model.training.epoch_metrics import Epoch
from stale_model.training.epoch_steps import EpochTrainer, Progress, learning_rate
from stale_model.training.hardware import peak_memory_mb
from stale_model.training.training_config import TrainingConfig
from stale_model.training.training_files import (
    BEST,
    LAST,
    Plan,
    complete,
    read_history,
    read_last,
    read_plan,
    save_epoch,
)
from stale_model.training.validation import Watch, validate
from stale_runtime.errors import CheckpointError
from stale_runtime.inference.text_encoder import PROMPT_TEMPLATE, Tokenizer
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Videos and classes to train on, and to validate on."""

    train: tuple[VideoSample, ...]
    validation: tuple[VideoSample, ...]
    """Videos of the same classes, whose mAP chooses the best epoch; if empty, the last epoch is the best."""
    classes: tuple[str, ...]
    """The seen classes, in the order of the network's rows."""
    split: str
    """Name of the split."""
    unseen: tuple[VideoSample, ...] = ()
    """Videos of the unseen classes: evaluated once, after the best epoch is chosen."""
    unseen_classes: tuple[str, ...] = ()
    all_training: bool = False
    """Whether the videos were trained on without regard to their subset."""
    train_ids: TrainIds | None = None
    """The list that the training videos were restricted to."""
    listed: int = 0
    """Number of ids in that list that are of the training subset."""
    features: TrainedFeatures = NO_FEATURES
    """What is known about the features, for the checkpoint."""
    cache: FeatureCache | None = None
    """Has the features of all videos; None to read their files."""


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
    watch: Watch = iter,
    say: Callable[[str], None] = lambda _: None,
) -> list[Epoch]:
    """Train, writing ``best.pth``, ``last.pth``, ``metrics.csv`` and ``curves.png`` after every epoch.

    Args:
        fabric: a fabric that was launched.
        model: network and text tower with their initial weights.
        clip: configuration and tokenizer of the tower.
        data: videos and classes.
        config: how to train.
        folder: where to write; it exists.
        resume: continue from ``last.pth`` in the folder.
        on_start: called with the number of epochs done before.
        on_epoch: called after each epoch.
        progress: called after each step.
        watch: shows how many videos are validated on.
        say: called if a training that is resumed gets another number of epochs, with what that means.

    Returns:
        All epochs, including those before it was resumed.

    Raises:
        CheckpointError: ``last.pth`` is missing, damaged, or belongs to another training.
        FeatureError: a feature file can no longer be read, or now contains NaN or infinity.
        OSError: a file cannot be written; those of the last complete epoch are kept.
    """
    token_ids = tokenize(clip, data.classes)
    description = _description(data, config)
    history: list[Epoch] = []
    plan: Plan = ((0, config.epochs),)

    def pack() -> dict[str, Any]:
        done = {"epochs_done": len(history), "plan": [list(row) for row in plan]}
        return pack_checkpoint(model, clip, data.classes, {**description, **done}, data.features)

    saved = read_last(folder / LAST, model, clip, description) if resume else None
    if saved is not None:
        model.load_state_dict(dict(saved["state_dict"]))
    trainer = EpochTrainer(fabric, model, token_ids, config)
    if saved is not None:
        trainer.restore(saved["state"], folder / LAST)
        history = read_history(saved)
        plan = _continue_plan(read_plan(saved), len(history), config, folder / LAST, say)
        if fabric.is_global_zero:
            complete(folder, {**pack(), "history": saved["history"]})
    del saved
    on_start(len(history))
    channels = model.network.config.channels
    dataset = StaleDataset(data.train, data.classes, channels=channels, length=config.length, cache=data.cache)
    for number in range(len(history), config.epochs):
        result = trainer.train_epoch(dataset, number, progress)
        score = None
        if data.validation and fabric.is_global_zero:
            score = validate(
                model, data.validation, data.classes, token_ids, config.length, cache=data.cache, watch=watch
            )
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
            save_epoch(folder, pack(), trainer.state(), history)
            on_epoch(epoch)
        fabric.barrier()
    return history


def _continue_plan(plan: Plan, done: int, config: TrainingConfig, path: Path, say: Callable[[str], None]) -> Plan:
    """The plan of a training that is resumed; if it gets another number of epochs, that is said.

    Raises:
        CheckpointError: more epochs are done than it gets.
    """
    _, before = plan[-1]
    if config.epochs == before:
        return plan
    if config.epochs < done:
        raise CheckpointError(
            f"{path}: {done} epochs are done, more than --epochs {config.epochs}; give --epochs {done} or more, or "
            "another folder"
        )
    now, then = learning_rate(config, done), learning_rate(replace(config, epochs=before), done)
    say(
        f"--epochs {config.epochs}, so far {before}: after epoch {done} the learning rate goes on at {now:.2g} instead "
        f"of {then:.2g}, and falls to 0 at epoch {config.epochs}; a training with --epochs {config.epochs} from the "
        "start would have had other learning rates until here, and so another result"
    )
    return (*plan, (done, config.epochs))


def unseen_map(
    data: TrainingData, folder: Path, length: int, device: torch.device, *, watch: Watch = iter
) -> float | None:
    """Average mAP of ``best.pth`` on the videos of the unseen classes, in [0, 1]; None if there are none.

    Args:
        data: videos and classes.
        folder: folder of the finished training.
        length: T, in snippets.
        device: where to compute.
        watch: shows how many videos are validated on.

    Raises:
        CheckpointError: ``best.pth`` cannot be read.
        FeatureError: a feature file can no longer be read, or now contains NaN or infinity.
    """
    if not data.unseen:
        return None
    path = folder / BEST
    model, clip, _ = unpack_checkpoint(load_plain(path).content, path)
    token_ids = tokenize(clip, data.unseen_classes)
    return validate(
        model.to(device), data.unseen, data.unseen_classes, token_ids, length, cache=data.cache, watch=watch
    )


def tokenize(clip: ClipParts, classes: Sequence[str]) -> Tensor:
    """Token ids of the classes' prompts: (K, L).

    Raises:
        CheckpointError: the tokenizer is not CLIP's.
        PromptError: a class name is too long.
    """
    spec = text_encoder_spec(clip)
    return torch.from_numpy(Tokenizer(clip.tokenizer_json, spec)([PROMPT_TEMPLATE.replace("{}", c) for c in classes]))


def _description(data: TrainingData, config: TrainingConfig) -> dict[str, Any]:
    """How a training is done, in plain values; two trainings with equal descriptions give equal results."""
    settings = asdict(config)
    del settings["workers"]  # changes only the time that it takes
    ids = data.train_ids
    return {
        "config": settings,
        "split": data.split,
        "seed": config.seed,
        "all_training": True if data.all_training else None,  # None also if a checkpoint was written before
        "train_ids": None if ids is None else len(ids.ids),
        "recipe": None if data.features.recipe == UNKNOWN_RECIPE else data.features.recipe.to_json(),
        "train_ids_sha256": None if ids is None else ids.digest,
        "videos": sorted(sample.video for sample in data.train),
        "validation_videos": sorted(sample.video for sample in data.validation),
    }
