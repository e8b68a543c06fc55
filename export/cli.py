"""``stale-export``: a checkpoint in, a verified bundle out."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stale_export.bundle_writer import can_be_bundle
from stale_runtime import __version__, console
from stale_runtime.activitynet import CLASSES
from stale_runtime.bundle import DEFAULT_FOLDER
from stale_runtime.errors import CheckpointError, ExportError
from stale_runtime.files import reason
from stale_runtime.prompts import Prompts, read_prompts

if TYPE_CHECKING:
    from stale_export.exporter import ExportedFile

NAME = "stale-export"
DEFAULT_CLIP = "openai/clip-vit-base-patch32"


@click.command()
@click.option(
    "--ckpt",
    required=True,
    type=click.Path(path_type=Path),
    help="A checkpoint of the original STALE, or of stale-train.",
)
@click.option(
    "--clip",
    default=DEFAULT_CLIP,
    show_default=True,
    metavar="ID_OR_DIR",
    help="For the original's checkpoints: Hugging Face id of their CLIP, or folder with config.json, tokenizer.json.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=DEFAULT_FOLDER, show_default=True)
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    help="Class names whose embeddings the bundle carries, one a line; default: those trained, or ActivityNet's.",
)
@click.version_option(__version__, prog_name=NAME)
def stale_export(ckpt: Path, clip: str, output: Path, classes: Path | None) -> None:
    """Export a trained STALE as a bundle that runs without PyTorch.

    The graphs are compared with the network in ONNX Runtime before the bundle appears under its name; a bundle that
    was there before is replaced.

    \b
      stale-export --ckpt best.pth
      stale-export --ckpt best.pth --clip ./clip -o my_bundle
    """  # noqa: D301 -- click reads the backslash
    if not can_be_bundle(output):
        raise click.UsageError(f"-o {output}: something else is there; give a new folder, or a bundle to replace")
    if not output.absolute().parent.is_dir():
        raise click.UsageError(f"-o {output}: there is no folder {output.absolute().parent}; make it first")
    prompts = read_prompts(classes) if classes is not None else None
    if not ckpt.is_file():
        raise CheckpointError(f"--ckpt {ckpt}: no such file; give the checkpoint that training wrote")

    console.note(NAME, "loading PyTorch")
    try:
        from stale_export.exporter import export_bundle
        from stale_model import read_checkpoint
    except ModuleNotFoundError as problem:
        raise ExportError(f"needs {problem.name}; install it with: pip install 'stale-edge[export]'") from problem

    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    console.note(NAME, f"reading {ckpt}")
    trained = read_checkpoint(ckpt, clip)
    if prompts is None:
        prompts = Prompts.of(trained.classes or CLASSES)
    try:
        files = export_bundle(trained, prompts, output, say=lambda text: console.note(NAME, text))
    except OSError as problem:
        raise ExportError(f"-o {output}: {reason(problem)}; nothing was written") from problem
    click.echo(_table(files))


def main() -> None:
    """Run ``stale-export``."""
    console.run(stale_export, NAME)


def _table(files: "Sequence[ExportedFile]") -> str:
    from tabulate import tabulate

    rows = [
        (file.name, f"{file.size / 1e6:.2f} MB", "" if file.deviation is None else f"{file.deviation:.1e}")
        for file in files
    ]
    return tabulate(rows, ("file", "size", "max deviation"), colalign=("left", "right", "right"), disable_numparse=True)
