"""``stale-train``: features and annotations in, a checkpoint out."""

import logging
import math
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import click
import torch
from lightning_fabric import Fabric
from tabulate import tabulate

from stale_model.clip import DEFAULT_CLIP, ClipParts, TextTower, read_clip_parts, read_tower
from stale_model.config import StaleConfig
from stale_model.dataset import Selection, sample_fraction, select_videos
from stale_model.losses import LossWeights
from stale_model.network import Stale
from stale_model.own_checkpoint import StaleWithText
from stale_model.splits import Split, read_split
from stale_model.trainer import BEST, LAST, Epoch, TrainingData, train
from stale_model.training import TrainingConfig
from stale_runtime import __version__, console
from stale_runtime.errors import StaleError
from stale_runtime.files import reason
from stale_runtime.ground_truth import read_ground_truth

NAME = "stale-train"
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@click.command()
@click.option("--annotations", required=True, type=click.Path(path_type=Path), help="ActivityNet's JSON.")
@click.option("--features", required=True, type=click.Path(path_type=Path), help="Folder of .npy feature files.")
@click.option("--split", help="closed, 75-25:N or 50-50:N, N from 0 to 9; the latter two with --split-lists.")
@click.option("--split-lists", type=click.Path(path_type=Path), help="Folder of the published split lists.")
@click.option("--seen", type=click.Path(path_type=Path), help="Instead of --split: the classes to train on.")
@click.option("--unseen", type=click.Path(path_type=Path), help="With --seen: the classes kept out.")
@click.option("--fraction", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Share of the videos to use.")
@click.option("--subset-seed", type=int, default=0, show_default=True, help="Which videos --fraction takes.")
@click.option("--clip", default=DEFAULT_CLIP, show_default=True, metavar="ID_OR_DIR", help="Text tower and tokenizer.")
@click.option("--freeze-text", is_flag=True, help="Leave the text tower as it is; prompts are embedded once.")
@click.option("--epochs", type=click.IntRange(1), default=12, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Over all processes.")
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), default=1e-4, show_default=True)
@click.option("--weight-decay", type=click.FloatRange(0, 1), default=0.02, show_default=True)
@click.option("--length", type=click.IntRange(16, 4096), default=100, show_default=True, help="T, in snippets.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["auto", *PRECISIONS]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all that this process may use.")
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that read features.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default="stale_training", show_default=True)
@click.option("--resume", is_flag=True, help="Go on where the training in the output folder stopped.")
@click.version_option(__version__, prog_name=NAME)
def stale_train(**options: Any) -> None:
    """Train STALE on snippet features.

    Only videos all of whose labels are seen classes are trained on, and only such validation videos choose the best
    epoch: nothing of the unseen classes is looked at. The output folder gets best.pth, last.pth, metrics.csv and
    curves.png after every epoch.

    \b
      stale-train --annotations activity_net.json --features feats/ --split closed
      stale-train --annotations activity_net.json --features feats/ --split 75-25:0 --split-lists splits/ --device cuda
      torchrun --nproc-per-node 2 -m stale_model.cli --annotations ... (several GPUs, or processes)
    """  # noqa: D301 -- click reads the backslash
    warnings.filterwarnings("ignore", module="lightning_fabric")
    for library in ("transformers", "huggingface_hub", "lightning_fabric", "lightning"):
        logging.getLogger(library).setLevel(logging.ERROR)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    _check_output(options["output"], resume=options["resume"])
    fabric = _fabric(options["device"], options["precision"])
    fabric.launch()
    main_process = fabric.is_global_zero
    split = _split(options)
    config = _config(options, split)
    clip = read_clip_parts(options["clip"])
    data = _data(options, split, say=main_process)
    model = _model(clip, options["clip"], config, say=main_process)
    reporter = _Reporter(config.epochs, quiet=not main_process)
    try:
        history = train(
            fabric,
            model,
            clip,
            data,
            config,
            options["output"],
            resume=options["resume"],
            on_epoch=reporter.epoch,
            progress=reporter.step,
        )
    except OSError as problem:
        raise StaleError(f"-o {options['output']}: {reason(problem)}; the last complete checkpoint stands") from problem
    if main_process:
        best = max(history, key=lambda epoch: epoch.merit)
        seconds = sum(epoch.seconds for epoch in history) / len(history)
        console.note(NAME, f"{options['output'] / BEST} is epoch {best.epoch}; {seconds:.1f} s an epoch on average")


def main() -> None:
    """Run ``stale-train``."""
    console.run(stale_train, NAME)


class _Reporter:
    """Progress on stderr while an epoch runs, a row on stdout when it is done."""

    def __init__(self, epochs: int, *, quiet: bool) -> None:
        self._epochs = epochs
        self._quiet = quiet
        self._started = time.perf_counter()
        self._steps = 0
        self._done = 0

    def step(self, done: int, of: int, loss: float) -> None:
        """A step is done."""
        self._steps += 1
        if self._quiet or not sys.stderr.isatty():
            return
        left = (self._epochs - self._done) * of - done
        seconds = (time.perf_counter() - self._started) / self._steps * left
        click.echo(f"\r{NAME}: step {done}/{of}, loss {loss:.4f}, {seconds:.0f} s left   ", nl=done == of, err=True)

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is done."""
        self._done = epoch.epoch
        score = "" if epoch.validation_map is None else f"{100 * epoch.validation_map:.2f}"
        row = (epoch.epoch, epoch.total, epoch.classification, epoch.masks, epoch.foreground, epoch.consistency, score)
        headers = ("epoch", "loss", "classes", "masks", "foreground", "consistency", "val. mAP %", "s", "peak MB")
        table = tabulate([(*row, f"{epoch.seconds:.1f}", f"{epoch.peak_memory_mb:.0f}")], headers, floatfmt=".4f")
        click.echo(table if epoch.epoch == 1 else table.splitlines()[-1])


def _check_output(folder: Path, *, resume: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise click.UsageError(f"-o {folder}: {reason(problem)}") from problem
    if (folder / LAST).exists() and not resume:
        raise click.UsageError(f"-o {folder}: holds a training already; give --resume, or another folder")


def _fabric(device: str, precision: str) -> Fabric:
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("--device cuda: PyTorch finds no GPU here; give --device cpu")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if precision == "auto":
        precision = ("bf16" if torch.cuda.is_bf16_supported() else "16") if on_gpu else "32"
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Fabric(
        accelerator="cuda" if on_gpu else "cpu",
        devices=processes,
        strategy="ddp" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "auto",
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


def _data(options: dict[str, Any], split: Split, *, say: bool) -> TrainingData:
    channels = StaleConfig().channels
    truth = read_ground_truth(options["annotations"], subset="training")
    selection = select_videos(truth, options["features"], split.seen, channels=channels)
    train_samples = sample_fraction(selection.samples, options["fraction"], options["subset_seed"])
    validation = _validation(options, split, channels) if truth.has_subsets else None
    if say:
        _report("training", selection)
        if not truth.has_subsets:
            console.note(NAME, f"{options['annotations']} tells no subsets: all of its videos are trained on")
        console.note(NAME, f"using {len(train_samples)} of them, {len(split.seen)} seen classes, split {split.name}")
        if validation is None:
            console.note(NAME, "no validation videos of the seen classes; the lowest loss chooses the best epoch")
        else:
            _report("validation", validation)
    return TrainingData(
        train=train_samples,
        validation=validation.samples if validation is not None else (),
        classes=split.seen,
        split=split.name,
    )


def _validation(options: dict[str, Any], split: Split, channels: int) -> Selection | None:
    try:
        truth = read_ground_truth(options["annotations"], subset="validation")
        return select_videos(truth, options["features"], split.seen, channels=channels)
    except StaleError:
        return None


def _report(subset: str, selection: Selection) -> None:
    console.note(NAME, f"{subset}: {selection}")
    for problem in selection.problems.values():
        console.note(NAME, f"left out: {problem}")


def _model(clip: ClipParts, source: str, config: TrainingConfig, *, say: bool) -> StaleWithText:
    torch.manual_seed(config.seed)
    tower = read_tower(source)
    if tower is None:
        if say:
            console.note(NAME, f"--clip {clip.name} has no weights: the text tower starts at random")
        tower = TextTower(clip.text_config)
    network = Stale(StaleConfig(channels=clip.text_config.projection_dim or 0, temporal_scale=config.length))
    scale = math.sqrt(network.config.channels)
    with torch.no_grad():
        network.background_embedding.mul_(10 / scale)  # as long as CLIP's embeddings
    return StaleWithText(network, tower)


if __name__ == "__main__":
    main()
