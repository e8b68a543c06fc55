"""``stale-export``: a checkpoint in, a verified bundle out."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stale_export.bundle_writer import can_be_bundle
from stale_export.schemes import TARGETS, bits_for
from stale_model.checkpoints.default_clip import DEFAULT_CLIP
from stale_runtime import __version__
from stale_runtime.bundle.bundle import DEFAULT_FOLDER
from stale_runtime.bundle.manifest import Manifest, QuantizationRecord
from stale_runtime.bundle.signatures import Signer
from stale_runtime.errors import CheckpointError, ExportError
from stale_runtime.evaluation.activitynet import CLASSES
from stale_runtime.inputs.prompts import Prompts, read_prompts
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.workspace import workspace
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, Number

if TYPE_CHECKING:
    from stale_export.exporter import Int8Options

NAME = "stale-export"


@click.command()
@click.option(
    "--ckpt",
    required=True,
    type=PATH,
    help="A checkpoint of the original STALE, or of stale-train.",
)
@click.option(
    "--clip",
    default=DEFAULT_CLIP,
    show_default=True,
    metavar="ID_OR_DIR",
    help="For the original's checkpoints: Hugging Face id of their CLIP, or folder with config.json, tokenizer.json.",
)
@click.option("-o", "--output", type=PATH, default=DEFAULT_FOLDER, show_default=True)
@click.option(
    "--classes",
    type=PATH,
    help="Class names whose embeddings the bundle carries, one a line; default: those trained, or ActivityNet's.",
)
@click.option(
    "--calibration",
    type=PATH,
    help="Folder of training features, to calibrate int8 on; without it ort-int8 is the dynamic graph.",
)
@click.option("--calibration-videos", type=click.IntRange(1, 10_000), default=64, show_default=True)
@click.option("--calibration-seed", type=int, default=0, show_default=True, help="Which videos of the folder.")
@click.option(
    "--validate",
    type=PATH,
    help="Annotations, to measure mAP of every graph; with --validation-features.",
)
@click.option("--validation-subset", default="validation", show_default=True, help="Subset of the annotations.")
@click.option("--validation-features", type=PATH, help="Folder of their features.")
@click.option(
    "--max-map-drop",
    type=Number(0, 100),
    default=0.5,
    show_default=True,
    help="Percent of mAP that int8 may lose; layers return to float until it holds.",
)
@click.option(
    "--target",
    type=click.Choice(list(TARGETS)),
    default="portable",
    show_default=True,
    help="CPUs that int8 must be exact on: any, or only those with VNNI, which bear weights of 8 bits.",
)
@click.option("--weight-bits", type=click.IntRange(4, 8), help="Of int8 weights; default: 7 portable, 8 for vnni.")
@click.option("--text-precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@click.option(
    "--sign",
    type=PATH,
    metavar="KEY",
    help="Sign the bundle with this private key (PEM, elliptic curve), for stale-run --verify.",
)
@click.version_option(__version__, prog_name=NAME)
def stale_export(ckpt: Path, clip: str, output: Path, classes: Path | None, sign: Path | None, **int8: Any) -> None:
    """Export a trained STALE as a bundle that runs without PyTorch.

    The graphs are compared with the network in ONNX Runtime before the bundle appears under its name; a bundle that
    was there before is replaced.

    \b
      stale-export --ckpt best.pth
      stale-export --ckpt best.pth --clip ./clip -o my_bundle
      stale-export --ckpt best.pth --calibration train_feats/ --validate gt.json --validation-features val_feats/
    """  # noqa: D301 -- click reads the backslash
    if (int8["validate"] is None) != (int8["validation_features"] is None):
        raise click.UsageError("--validate and --validation-features go together; give both, or neither")
    bits_for(int8["target"], int8["weight_bits"])  # refuses those that saturate
    try:
        if not can_be_bundle(output):
            raise click.UsageError(f"-o {output}: something else is there; give a new folder, or a bundle to replace")
        if not output.absolute().parent.is_dir():
            raise click.UsageError(f"-o {output}: there is no folder {output.absolute().parent}; make it first")
        with workspace(output.resolve().parent):  # shows that it can be written, and removes what a killed run left
            pass
    except OSError as problem:
        raise click.UsageError(f"-o {output}: {why_unwritten(problem)}") from problem
    prompts = read_prompts(classes) if classes is not None else None
    if not os.path.isfile(ckpt):
        raise CheckpointError(f"--ckpt {ckpt}: no such file; give the checkpoint that training wrote")

    signer = Signer(sign) if sign is not None else None

    console.note(NAME, "loading PyTorch")
    try:
        from stale_export.exporter import Int8Options, export_bundle
        from stale_model import read_checkpoint
    except ModuleNotFoundError as problem:
        raise ExportError(f"needs {problem.name}; install it with: pip install 'stale-edge[export]'") from problem

    for library in ("", "transformers", "huggingface_hub"):  # the first is ONNX Runtime's quantization tool
        logging.getLogger(library).setLevel(logging.ERROR)
    console.note(NAME, f"reading {ckpt}")
    trained = read_checkpoint(ckpt, clip)
    if prompts is None:
        prompts = Prompts.of(trained.classes or CLASSES)
    try:
        manifest = export_bundle(
            trained,
            prompts,
            output,
            int8=_int8_options(Int8Options, int8),
            sign=signer.sign if signer is not None else None,
            say=lambda text: console.note(NAME, text),
        )
    except OSError as problem:
        raise ExportError(f"-o {output}: {why_unwritten(problem)} (what was there is unchanged)") from problem
    console.echo(_table(manifest))
    console.echo(f"\nsha256 of the bundle, for stale-run --expect-sha256: {manifest.sha256}")


def main() -> None:
    """Run ``stale-export``."""
    console.run(stale_export, NAME)


def _int8_options(kind: "type[Int8Options]", given: dict[str, Any]) -> "Int8Options":
    renamed = {"annotations": given.pop("validate"), "annotations_subset": given.pop("validation_subset")}
    return kind(**given, **renamed)


def _table(manifest: Manifest) -> str:
    from tabulate import tabulate

    deviations = {record.file: 0.0 for record in manifest.parity}
    for record in manifest.parity:
        deviations[record.file] = max(deviations[record.file], record.deviation)
    quantized = {record.file: record for record in manifest.quantization}
    rows = []
    for name, file in manifest.files.items():
        row = [name, f"{file.size / 1e6:.2f} MB"]
        if name in quantized:
            rows.append([*row, *_int8_cells(quantized[name])])
        else:
            rows.append([*row, f"{deviations[name]:.1e}" if name in deviations else "", "", "", ""])
    headers = ("file", "size", "max deviation", "int8", "layers in float", "mAP % (change)")
    return tabulate(rows, headers, colalign=("left", "right"), disable_numparse=True)


def _int8_cells(record: QuantizationRecord) -> list[str]:
    if record.map_percent is None or record.fp32_map_percent is None:
        proof = "not measured"
    else:
        proof = f"{record.map_percent:.2f} ({record.map_percent - record.fp32_map_percent:+.2f})"
    kind = f"{record.kind}, {record.integer_operators_found} of {record.integer_operators_expected} operators"
    return ["", kind, ", ".join(record.float_layers) or "none", proof]
