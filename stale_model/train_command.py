"""``stale-train``: trains a network from features and annotations. PyTorch is loaded once the options are parsed."""

from typing import Any

import click

from stale_model.checkpoints.default_clip import DEFAULT_CLIP
from stale_model.training.train_request import DEVICES, PRECISIONS, TRAINING, VALIDATION, TrainRequest
from stale_model.training.training_config import TrainingConfig
from stale_runtime import __version__
from stale_runtime.errors import MissingPackageError
from stale_runtime.exit_codes import MISSING_PACKAGE, describe_exit_codes
from stale_runtime.system.cpus import wait_passively
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, Number

NAME = "stale-train"


@click.command(epilog=describe_exit_codes(MISSING_PACKAGE))
@click.option(
    "--annotations",
    metavar="FILE",
    required=True,
    type=PATH,
    help="ActivityNet's JSON: labels, times and subset of each video; or the original code's, with --video-info.",
)
@click.option(
    "--features",
    metavar="FOLDER",
    required=True,
    type=PATH,
    help="Folder of the videos' features, as v_ID.npy or ID.npy.",
)
@click.option(
    "--cache-features",
    metavar="FOLDER",
    type=PATH,
    help="Keep the features of all videos, resampled to --length, in one file in this folder, and read them from "
    "there: for many thousands of videos, or a slow disk. Files that changed are read again. The result is the same.",
)
@click.option(
    "--recipe",
    metavar="FILE",
    type=PATH,
    help="JSON file that says how the features were made: tower, image_size, interpolation, resize, mean, deviation, "
    "channel_order, snippet_s, frames, normalised; what it leaves out is unknown. The checkpoint keeps it. Features of "
    "stale-features say so themselves.",
)
@click.option(
    "--split",
    metavar="SPLIT",
    help="Which classes to train on: closed for all of them, or a published split 75-25:N or 50-50:N, N from 0 to 9, "
    "that keeps the others out (with --split-lists).",
)
@click.option(
    "--split-lists",
    metavar="FOLDER",
    type=PATH,
    help="Folder of the published splits, as in the original code: train_75_test_25/ActivityNet/train/split_0.list …",
)
@click.option(
    "--seen", metavar="FILE", type=PATH, help="File of the classes to train on, one per line; instead of --split."
)
@click.option("--unseen", metavar="FILE", type=PATH, help="File of the classes to keep out, one per line; with --seen.")
@click.option(
    "--video-info",
    metavar="FILE",
    type=PATH,
    help="The original code's video_info_new.csv: the subset and duration of each video, for annotations that lack "
    "them.",
)
@click.option(
    "--all-training",
    is_flag=True,
    help="Train on all videos of annotations without subsets, whatever they were meant for. No video is left for "
    "validation, so best.pth is the last epoch; the checkpoint says so.",
)
@click.option(
    "--train-subset",
    metavar="NAME",
    default=TRAINING,
    show_default=True,
    help="Subset of the annotations to train on.",
)
@click.option(
    "--validation-subset",
    metavar="NAME",
    default=VALIDATION,
    show_default=True,
    help="Subset of the annotations that chooses the best epoch and gives the mAP of the summary; another than "
    "--train-subset.",
)
@click.option(
    "--fraction",
    metavar="PART",
    type=Number(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Part of the training videos to use.",
)
@click.option(
    "--train-ids",
    metavar="FILE",
    type=PATH,
    help="Train only on these videos of the training subset: a file with one id per line, or a JSON file whose keys "
    "are the ids, such as a sample of the annotations. Instead of --fraction.",
)
@click.option(
    "--subset-seed",
    metavar="N",
    type=int,
    default=0,
    show_default=True,
    help="Seed that decides which videos --fraction takes.",
)
@click.option(
    "--clip",
    default=DEFAULT_CLIP,
    show_default=True,
    metavar="ID|FOLDER",
    help="The CLIP that embeds class names: a Hugging Face id, or a folder with config.json, tokenizer.json and "
    "weights.",
)
@click.option(
    "--text-from",
    metavar="FILE",
    type=PATH,
    help="Start with the text tower of this checkpoint instead of CLIP's. A checkpoint of the original STALE has no "
    "tokenizer: --clip names it.",
)
@click.option("--freeze-text", is_flag=True, help="Do not train the text tower; each prompt is embedded only once.")
@click.option(
    "--epochs",
    metavar="N",
    type=click.IntRange(1),
    default=12,
    show_default=True,
    help="Passes over the training videos.",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Videos in a step, of all processes together.",
)
@click.option(
    "--learning-rate",
    metavar="RATE",
    type=Number(0, 1, min_open=True),
    default=2e-4,
    show_default=True,
    help="Learning rate at the start; it falls along a cosine to 0.",
)
@click.option(
    "--weight-decay",
    metavar="RATE",
    type=Number(0, 1),
    default=0.02,
    show_default=True,
    help="Weight decay of the AdamW optimizer, which pulls the weights towards 0.",
)
@click.option(
    "--length",
    metavar="N",
    type=click.IntRange(16, 4096),
    default=100,
    show_default=True,
    help="Snippets that each video is resampled to (T). Detection can use other lengths later.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the initial weights, the order of the videos, and dropout.",
)
@click.option(
    "--seeds",
    metavar="N",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Number of trainings; each adds one to --seed and --subset-seed. The table ends with mean ± std.",
)
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where to train; auto is the GPU if there is one.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Bits of the numbers; auto is bf16 or 16 on a GPU, 32 on the CPU.",
)
@click.option(
    "--threads", metavar="N", type=click.IntRange(1), help="CPU threads. [default: as many as PyTorch chooses]"
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Processes that read features in the background; 0 reads between the steps.",
)
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    type=PATH,
    default="stale_training",
    show_default=True,
    help="Folder for checkpoints, metrics and curves.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the training in the output folder from its last epoch. With another --epochs, the learning rate "
    "goes on along the cosine of the new number, even if it had fallen to 0.",
)
@click.version_option(__version__, prog_name=NAME)
def stale_train(
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    length: int,
    seed: int,
    freeze_text: bool,
    workers: int,
    threads: int | None,
    **others: Any,
) -> None:
    """Train STALE on snippet features.

    Only videos whose labels are all seen classes are trained on, and only such validation videos choose the best
    epoch; videos of the unseen classes are not looked at before that. Every feature file is read once at the start;
    files that cannot be used are left out and listed. The output folder gets best.pth, last.pth, metrics.csv and
    curves.png after every epoch (with --seeds, in a folder for each seed), and summary.csv.

    \b
      stale-train --annotations activity_net.json --features feats/ --split closed
      stale-train --annotations activity_net.json --features feats/ --split 75-25:0 --split-lists splits/ --device cuda
      stale-train --annotations anet_anno_action.json --video-info video_info_new.csv --features feats/ --split closed
      stale-train ... --fraction 0.2 --seeds 5 (five trainings, each on its own fifth of the videos)
      torchrun --nproc-per-node 2 -m stale_model --annotations ... (several GPUs, or processes)
    """  # noqa: D301 -- click reads the backslash
    try:
        config = TrainingConfig(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            length=length,
            seed=seed,
            freeze_text=freeze_text,
            workers=workers,
        )
        request = TrainRequest(config=config, threads=threads and console.limit_threads(NAME, threads), **others)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from problem
    wait_passively()
    console.note(NAME, "loading PyTorch")
    try:
        from stale_model.training.run_training import run_training
        from stale_model.training.training_report import summary_table
    except ModuleNotFoundError as problem:
        raise MissingPackageError.for_extra(f"training needs {problem.name}", "train") from problem
    results = run_training(request, NAME)
    if results:
        console.echo()
        console.echo(summary_table(results))


def main() -> None:
    """Run ``stale-train``."""
    console.run_command(stale_train, NAME)


if __name__ == "__main__":
    main()
