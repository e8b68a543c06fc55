"""``stale-train`` as a function: from a request to trained, evaluated networks."""

import logging
import math
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from stale_model.checkpoints.checkpoint import read_checkpoint
from stale_model.checkpoints.clip import ClipParts, TextTower, read_clip_parts, read_tower
from stale_model.checkpoints.hub import show_only_downloads
from stale_model.checkpoints.own_checkpoint import StaleWithText
from stale_model.data.splits import Split, read_split
from stale_model.network.config import StaleConfig
from stale_model.network.stale import Stale
from stale_model.training.epoch_metrics import best_epoch
from stale_model.training.hardware import is_lost_process, make_fabric
from stale_model.training.output_folder import check_folder, lock_folder
from stale_model.training.train_request import TrainRequest
from stale_model.training.training_config import LossWeights, TrainingConfig
from stale_model.training.training_files import BEST, LAST
from stale_model.training.training_loop import TrainingData, train, unseen_map
from stale_model.training.training_report import Reporter, TrainingResult, summary_csv
from stale_model.training.video_choice import ChosenVideos, choose_videos, draw_data, read_all_annotations
from stale_runtime.errors import BackendError, OutputError
from stale_runtime.inputs.features import CLIP_NORM
from stale_runtime.system.files import why_unwritten, write_whole

SUMMARY = "summary.csv"


def run_training(request: TrainRequest, name: str) -> tuple[TrainingResult, ...]:
    """Train once for each seed, with progress on stderr and the epochs' losses on stdout.

    Each folder gets ``best.pth``, ``last.pth``, ``metrics.csv`` and ``curves.png``, the output folder ``summary.csv``.
    Under ``torchrun`` each process calls this.

    Args:
        request: what to train on, how, and where to write.
        name: name of the command, which begins each message.

    Returns:
        One result for each training; under ``torchrun`` none in the processes after the first.

    Raises:
        BackendError: the device is missing, or does not compute in the precision; or another process of ``torchrun``
            has ended.
        OutputError: a folder is used by another training, contains one already, or cannot be written to.
        DatasetError: annotations or split cannot be used, or no video is left to train on.
        FeatureError: the folder of features cannot be used, or a file in it breaks during training.
        CheckpointError: CLIP, the checkpoint to start from, or the one to resume from cannot be used.
    """
    _silence_libraries()
    if request.threads:
        torch.set_num_threads(request.threads)
    fabric = make_fabric(request.device, request.precision)
    fabric.launch()
    split = _read_split(request)
    runs = request.runs()
    folders = [run.output for run in runs]
    with ExitStack() as locks:
        if fabric.is_global_zero:
            for folder in dict.fromkeys((request.output, *folders)):
                locks.enter_context(lock_folder(folder))
            for folder in folders:
                check_folder(folder, resume=request.resume)
        results = _train_all(fabric, runs, split, name)
        if not fabric.is_global_zero:
            return ()
        try:
            write_whole(request.output / SUMMARY, summary_csv(results))
        except OSError as problem:
            raise OutputError(f"-o {request.output / SUMMARY}: {why_unwritten(problem)}") from problem
    return tuple(results)


def _silence_libraries() -> None:
    warnings.filterwarnings("ignore", module="lightning_fabric")
    for library in ("transformers", "huggingface_hub", "lightning_fabric", "lightning"):
        logging.getLogger(library).setLevel(logging.ERROR)
    show_only_downloads()


def _read_split(request: TrainRequest) -> Split:
    labels = read_all_annotations(request).labels
    return read_split(request.split, lists=request.split_lists, seen=request.seen, unseen=request.unseen, labels=labels)


def _train_all(fabric: Fabric, runs: tuple[TrainRequest, ...], split: Split, name: str) -> list[TrainingResult]:
    results: list[TrainingResult] = []
    videos: ChosenVideos | None = None
    weights = LossWeights.for_split(seen=len(split.seen), unseen=len(split.unseen))
    for run in runs:
        reporter = Reporter(name, run.config.epochs, quiet=not fabric.is_global_zero)
        if len(runs) > 1:
            reporter.say(f"seed {run.config.seed}, into {run.output}")
        clip, tower = _initial_text_tower(run, split, reporter)
        if videos is None:  # the same for every seed
            reporter.show_split(split)
            reporter.say(f"{len(split.seen)} seen, {len(split.unseen)} unseen classes; weights of the loss: {weights}")
            videos = choose_videos(run, split, clip.text_config.projection_dim or 0, reporter)
        data = draw_data(run, split, videos, reporter)
        config = replace(run.config, weights=weights)
        model = _initial_model(clip, tower, config)
        results.append(_train_once(fabric, run, config, model, clip, data, reporter))
    return results


def _train_once(
    fabric: Fabric,
    run: TrainRequest,
    config: TrainingConfig,
    model: StaleWithText,
    clip: ClipParts,
    data: TrainingData,
    reporter: Reporter,
) -> TrainingResult:
    folder = run.output
    try:
        history = train(
            fabric,
            model,
            clip,
            data,
            config,
            folder,
            resume=run.resume and (run.seeds == 1 or (folder / LAST).exists()),
            on_start=reporter.show_start,
            on_epoch=reporter.show_epoch,
            progress=reporter.show_step,
            watch=reporter.show_validating,
            say=reporter.say,
        )
    except KeyboardInterrupt as problem:
        problem.args = (_describe_kept(folder),)
        raise
    except RuntimeError as problem:
        if not is_lost_process(problem):
            raise
        raise BackendError(
            f"another process of this training has ended, see its messages; {_describe_kept(folder)}"
        ) from problem
    except OSError as problem:
        kept = ", with --resume: the last complete epoch is kept" if (folder / LAST).exists() else ""
        raise OutputError(f"-o {folder}: {why_unwritten(problem)}{kept}") from problem
    best = best_epoch(history)
    reporter.say(f"{folder / BEST} is epoch {best.epoch}")
    return TrainingResult(
        seed=config.seed,
        videos=len(data.train),
        trained_on=_trained_on(run, data),
        best_epoch=best.epoch,
        seen_map=best.validation_map,
        unseen_map=unseen_map(data, folder, config.length, fabric.device, watch=reporter.show_validating)
        if fabric.is_global_zero
        else None,
        epoch_s=sum(epoch.seconds for epoch in history) / len(history),
        peak_memory_mb=max(epoch.peak_memory_mb for epoch in history),
        gpu_percent=best.gpu_percent,
    )


def _describe_kept(folder: Path) -> str:
    """What an interrupted training leaves, and how to go on."""
    if not (folder / LAST).exists():
        return f"no epoch is complete yet, so there is nothing to resume in -o {folder}"
    return f"the last complete epoch is kept in -o {folder}; repeat the command with --resume to go on from there"


def _trained_on(run: TrainRequest, data: TrainingData) -> str:
    videos = "all videos" if data.all_training else run.train_subset
    ids = data.train_ids
    return videos if ids is None else f"{videos}, {data.listed:,} of {len(ids.ids):,} ids {ids.digest[:8]}"


def _initial_text_tower(run: TrainRequest, split: Split, reporter: Reporter) -> tuple[ClipParts, TextTower | None]:
    """CLIP's parts and the text tower to start with; None for one with random weights."""
    reporter.say(f"reading {run.text_from or f'CLIP {run.clip}'}")
    if run.text_from is None:
        clip = read_clip_parts(run.clip)
        tower = read_tower(run.clip, clip.text_config)
        if tower is None:
            reporter.say(f"--clip {clip.name} has no weights: the text tower starts at random")
        return clip, tower
    trained = read_checkpoint(run.text_from, run.clip)
    if trained.classes is None and split.unseen:
        reporter.say(
            f"{run.text_from} does not list the classes that it was trained on: results on unseen classes are "
            "zero-shot only if these were not among them"
        )
    elif known := set(trained.classes or ()) & set(split.unseen):
        reporter.say(
            f"{run.text_from} was trained on {len(known)} of the unseen classes: results on them are not zero-shot"
        )
    return trained.clip, trained.tower


def _initial_model(clip: ClipParts, tower: TextTower | None, config: TrainingConfig) -> StaleWithText:
    torch.manual_seed(config.seed)
    tower = tower or TextTower(clip.text_config)
    network = Stale(StaleConfig(channels=clip.text_config.projection_dim or 0, temporal_scale=config.length))
    with torch.no_grad():
        network.background_embedding.mul_(CLIP_NORM / math.sqrt(network.config.channels))  # as long as CLIP's
    return StaleWithText(network, tower)
