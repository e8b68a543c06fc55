"""``stale-train``: features and annotations in, a checkpoint out."""

import fcntl
import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import torch
from lightning_fabric import Fabric
from transformers.utils import logging as transformers_logging

from stale_model.checkpoints.checkpoint import read_checkpoint
from stale_model.checkpoints.clip import ClipParts, TextTower, read_clip_parts, read_tower
from stale_model.checkpoints.default_clip import DEFAULT_CLIP
from stale_model.checkpoints.own_checkpoint import StaleWithText
from stale_model.data.dataset import Selection, sample_fraction, select_videos
from stale_model.data.splits import Split, read_split
from stale_model.network.config import StaleConfig
from stale_model.network.stale import Stale
from stale_model.training.history import best_epoch
from stale_model.training.losses import LossWeights
from stale_model.training.optimization import TrainingConfig
from stale_model.training.trainer import TrainingData, train, unseen_map
from stale_model.training.training_files import BEST, LAST
from stale_model.training.training_report import Reporter, Result, summary_csv, summary_table
from stale_runtime import __version__
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.ground_truth import read_ground_truth
from stale_runtime.system.files import why_unwritten, write_whole
from stale_runtime.system.workspace import workspace
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, Number

NAME = "stale-train"
SUMMARY = "summary.csv"
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@click.command()
@click.option("--annotations", required=True, type=PATH, help="ActivityNet's JSON.")
@click.option("--features", required=True, type=PATH, help="Folder of .npy feature files.")
@click.option("--split", help="closed, 75-25:N or 50-50:N, N from 0 to 9; the latter two with --split-lists.")
@click.option("--split-lists", type=PATH, help="Folder of the published split lists.")
@click.option("--seen", type=PATH, help="Instead of --split: the classes to train on.")
@click.option("--unseen", type=PATH, help="With --seen: the classes kept out.")
@click.option("--train-subset", default="training", show_default=True, help="As the annotations name it.")
@click.option("--validation-subset", default="validation", show_default=True, help="As the annotations name it.")
@click.option("--fraction", type=Number(0, 1, min_open=True), default=1.0, help="Share of the videos to use.")
@click.option("--subset-seed", type=int, default=0, show_default=True, help="Which videos --fraction takes.")
@click.option("--clip", default=DEFAULT_CLIP, show_default=True, metavar="ID_OR_DIR", help="Text tower and tokenizer.")
@click.option(
    "--text-from",
    type=PATH,
    help="Start with the text tower of this checkpoint instead of CLIP's; of the original's, --clip is the tokenizer.",
)
@click.option("--freeze-text", is_flag=True, help="Leave the text tower as it is; prompts are embedded once.")
@click.option("--epochs", type=click.IntRange(1), default=12, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Over all processes.")
@click.option("--learning-rate", type=Number(0, 1, min_open=True), default=2e-4, show_default=True)
@click.option("--weight-decay", type=Number(0, 1), default=0.02, show_default=True)
@click.option("--length", type=click.IntRange(16, 4096), default=100, show_default=True, help="T, in snippets.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and dropout.")
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Train so many times, counting --seed and --subset-seed up; the table ends with mean ± std.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["auto", *PRECISIONS]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all that this process may use.")
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that read features.")
@click.option("-o", "--output", type=PATH, default="stale_training", show_default=True)
@click.option("--resume", is_flag=True, help="Go on where the training in the output folder stopped.")
@click.version_option(__version__, prog_name=NAME)
def stale_train(**options: Any) -> None:
    """Train STALE on snippet features.

    Only videos all of whose labels are seen classes are trained on, and only such validation videos choose the best
    epoch: nothing of the unseen classes is looked at before that. The output folder gets best.pth, last.pth,
    metrics.csv and curves.png after every epoch (with --seeds in a folder a seed), and summary.csv.

    \b
      stale-train --annotations activity_net.json --features feats/ --split closed
      stale-train --annotations activity_net.json --features feats/ --split 75-25:0 --split-lists splits/ --device cuda
      stale-train ... --fraction 0.2 --seeds 5 (five trainings, each on its own fifth of the videos)
      torchrun --nproc-per-node 2 -m stale_model.train_command --annotations ... (several GPUs, or processes)
    """  # noqa: D301 -- click reads the backslash
    _silence_libraries()
    if options["threads"]:
        torch.set_num_threads(console.limit_threads(NAME, options["threads"]))
    fabric = _fabric(options["device"], options["precision"])
    fabric.launch()
    split = _split(options)
    runs = [_for_seed(options, n) for n in range(options["seeds"])]
    folders = [run["output"] for run in runs]
    with ExitStack() as locks:
        if fabric.is_global_zero:
            for folder in dict.fromkeys((options["output"], *folders)):
                locks.enter_context(_claimed(folder))
        for folder in folders:
            _check_output(folder, resume=options["resume"])
        results = [_train(fabric, run, split) for run in runs]
        if fabric.is_global_zero:
            _write_summary(options["output"] / SUMMARY, results)
    if fabric.is_global_zero:
        console.echo()
        console.echo(summary_table(results))


def main() -> None:
    """Run ``stale-train``."""
    console.run(stale_train, NAME)


def _silence_libraries() -> None:
    warnings.filterwarnings("ignore", module="lightning_fabric")
    for library in ("transformers", "huggingface_hub", "lightning_fabric", "lightning"):
        logging.getLogger(library).setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _for_seed(options: dict[str, Any], n: int) -> dict[str, Any]:
    """The options of the n-th of several trainings."""
    seed = options["seed"] + n
    folder = options["output"] / f"seed_{seed}" if options["seeds"] > 1 else options["output"]
    return {**options, "seed": seed, "subset_seed": options["subset_seed"] + n, "output": folder}


def _train(fabric: Fabric, options: dict[str, Any], split: Split) -> Result:
    """Train once, from options to result."""
    main_process, folder = fabric.is_global_zero, options["output"]
    if main_process and options["seeds"] > 1:
        console.note(NAME, f"seed {options['seed']}, into {folder}")
    config = _config(options, split)
    clip, tower = _text_tower(options, split, say=main_process)
    data = _data(options, split, channels=clip.text_config.projection_dim or 0, say=main_process)
    reporter = Reporter(NAME, config.epochs, quiet=not main_process)
    try:
        history = train(
            fabric,
            _model(clip, tower, config),
            clip,
            data,
            config,
            folder,
            resume=options["resume"] and (options["seeds"] == 1 or (folder / LAST).exists()),
            on_start=reporter.starts,
            on_epoch=reporter.epoch,
            progress=reporter.step,
        )
    except OSError as problem:
        stands = ", with --resume: the last complete epoch stands" if (folder / LAST).exists() else ""
        raise click.UsageError(f"-o {folder}: {why_unwritten(problem)}{stands}") from problem
    best = best_epoch(history)
    if main_process:
        console.note(NAME, f"{folder / BEST} is epoch {best.epoch}")
    return Result(
        seed=config.seed,
        videos=len(data.train),
        best_epoch=best.epoch,
        seen_map=best.validation_map,
        unseen_map=unseen_map(data, folder, config.length, fabric.device) if main_process else None,
        epoch_s=sum(epoch.seconds for epoch in history) / len(history),
        peak_memory_mb=max(epoch.peak_memory_mb for epoch in history),
        gpu_percent=best.gpu_percent,
    )


def _write_summary(path: Path, results: Sequence[Result]) -> None:
    try:
        write_whole(path, summary_csv(results))
    except OSError as problem:
        raise click.UsageError(f"-o {path}: {why_unwritten(problem)}") from problem


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Make a folder, and keep other trainings out of it while this one lasts, where its file system has such locks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as problem:
        raise click.UsageError(f"-o {folder}: {why_unwritten(problem)}") from problem
    try:
        with suppress(OSError):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise click.UsageError(
                    f"-o {folder}: another stale-train is at work there; wait for its end, or give another folder"
                ) from None
        yield
    finally:
        os.close(lock)


def _check_output(folder: Path, *, resume: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with workspace(folder):  # shows that files can be written, and removes what a killed run left
            pass
    except OSError as problem:
        raise click.UsageError(f"-o {folder}: {why_unwritten(problem)}") from problem
    if (folder / LAST).exists() and not resume:
        raise click.UsageError(f"-o {folder}: holds a training already; give --resume, or another folder")


def _fabric(device: str, precision: str) -> Fabric:
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("--device cuda: PyTorch finds no GPU here; give --device cpu")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if precision == "16" and not on_gpu:
        raise click.UsageError("--precision 16: only a GPU has it; give bf16 or 32")
    if precision == "auto":
        precision = ("bf16" if torch.cuda.is_bf16_supported() else "16") if on_gpu else "32"
    processes, all_processes = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    return Fabric(
        accelerator="cuda" if on_gpu else "cpu",
        devices=processes,
        num_nodes=all_processes // processes,
        strategy="ddp" if all_processes > 1 else "auto",
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
    )


def _split(options: dict[str, Any]) -> Split:
    labels = read_ground_truth(options["annotations"]).labels
    spec = options["split"]
    if spec is None and options["seen"] is None:
        raise click.UsageError("no --split; give closed, 75-25:N or 50-50:N, or --seen with --unseen")
    return read_split(spec, lists=options["split_lists"], seen=options["seen"], unseen=options["unseen"], labels=labels)


def _config(options: dict[str, Any], split: Split) -> TrainingConfig:
    half = split.name.startswith("50-50")
    return TrainingConfig(
        epochs=options["epochs"],
        batch_size=options["batch_size"],
        learning_rate=options["learning_rate"],
        weight_decay=options["weight_decay"],
        length=options["length"],
        seed=options["seed"],
        freeze_text=options["freeze_text"],
        workers=options["workers"],
        weights=LossWeights.half_split() if half else LossWeights(),
    )


def _text_tower(options: dict[str, Any], split: Split, *, say: bool) -> tuple[ClipParts, TextTower | None]:
    """What the text tower starts with; its weights are None where they are to be drawn."""
    source = options["text_from"]
    if source is None:
        clip = read_clip_parts(options["clip"])
        tower = read_tower(options["clip"], clip.text_config)
        if tower is None and say:
            console.note(NAME, f"--clip {clip.name} has no weights: the text tower starts at random")
        return clip, tower
    trained = read_checkpoint(source, options["clip"])
    known = None if trained.classes is None else set(trained.classes) & set(split.unseen)
    if say and split.unseen and known is None:
        console.note(
            NAME, f"{source} does not tell its classes: unseen ones count as unseen only if it had none of them"
        )
    elif say and known:
        console.note(
            NAME, f"{source} was trained on {len(known)} of the unseen classes: results on them are not zero-shot"
        )
    return trained.clip, trained.tower


def _data(options: dict[str, Any], split: Split, *, channels: int, say: bool) -> TrainingData:
    truth = read_ground_truth(options["annotations"], subset=options["train_subset"])
    selection = select_videos(truth, options["features"], split.seen, channels=channels)
    train_samples = sample_fraction(selection.samples, options["fraction"], options["subset_seed"])
    validation = _validation(options, split.seen, channels) if truth.has_subsets else None
    unseen = _validation(options, split.unseen, channels) if truth.has_subsets and split.unseen else None
    if say:
        _report("training", selection)
        if not truth.has_subsets:
            console.note(NAME, f"{options['annotations']} tells no subsets: all of its videos are trained on")
        console.note(NAME, f"using {len(train_samples):,} of them, {len(split.seen)} seen classes, split {split.name}")
        if validation is None:
            console.note(NAME, "no validation videos of the seen classes; the lowest loss chooses the best epoch")
        else:
            _report("validation", validation)
        if unseen is not None:
            _report("validation on unseen classes, once at the end", unseen)
    return TrainingData(
        train=train_samples,
        validation=validation.samples if validation is not None else (),
        classes=split.seen,
        split=split.name,
        unseen=unseen.samples if unseen is not None else (),
        unseen_classes=split.unseen,
    )


def _validation(options: dict[str, Any], classes: tuple[str, ...], channels: int) -> Selection | None:
    try:
        truth = read_ground_truth(options["annotations"], subset=options["validation_subset"])
        return select_videos(truth, options["features"], classes, channels=channels)
    except DatasetError:
        return None


def _report(subset: str, selection: Selection) -> None:
    console.note(NAME, f"{subset}: {selection}")
    for problem in selection.problems.values():
        console.note(NAME, f"left out: {problem}")


def _model(clip: ClipParts, tower: TextTower | None, config: TrainingConfig) -> StaleWithText:
    torch.manual_seed(config.seed)
    tower = tower or TextTower(clip.text_config)
    network = Stale(StaleConfig(channels=clip.text_config.projection_dim or 0, temporal_scale=config.length))
    scale = math.sqrt(network.config.channels)
    with torch.no_grad():
        network.background_embedding.mul_(10 / scale)  # as long as CLIP's embeddings
    return StaleWithText(network, tower)


if __name__ == "__main__":
    main()
