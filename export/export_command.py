"""``stale-export``: turns a checkpoint into a verified bundle."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stale_export.bundle_table import bundle_table
from stale_export.bundle_writer import can_be_bundle
from stale_export.export_request import ExportRequest
from stale_export.graph_choice import ALL_GRAPHS, check_graphs
from stale_export.int8_options import TEXT_PRECISIONS, Int8Options
from stale_export.schemes import TARGETS
from stale_export.stages import Stages, count_stages
from stale_model.checkpoints.default_clip import DEFAULT_CLIP
from stale_runtime import __version__
from stale_runtime.bundle.bundle import DEFAULT_FOLDER
from stale_runtime.bundle.manifest import Manifest
from stale_runtime.bundle.signatures import Signer
from stale_runtime.errors import ExportError, MissingPackageError, RecipeError
from stale_runtime.evaluation.activitynet import CLASSES
from stale_runtime.exit_codes import BAD_BUNDLE, LIMIT_MISSED, MISSING_PACKAGE, describe_exit_codes
from stale_runtime.inputs.prompt_lists import describe_doubts
from stale_runtime.inputs.prompts import Prompts, read_prompts
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE, FeatureRecipe, read_recipe
from stale_runtime.system.cpus import wait_passively
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.workspace import workspace
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, Number, SpaceSeparated
from stale_runtime.terminal.progress import Progress

if TYPE_CHECKING:
    from stale_model import TrainedStale

NAME = "stale-export"
DEFAULT_VISION = "openai/clip-vit-base-patch16"
"""The Hugging Face id of the tower that the original code's published features were made with."""
NOISY_LOGGERS = ("", "transformers", "huggingface_hub")
"""Loggers that print on stderr; the first is the root logger, which ONNX Runtime's quantization tool uses."""


@click.command(epilog=describe_exit_codes(BAD_BUNDLE, MISSING_PACKAGE, LIMIT_MISSED))
@click.option(
    "--ckpt",
    required=True,
    type=PATH,
    metavar="FILE",
    help="The checkpoint: best.pth of stale-train, or one of the original STALE code.",
)
@click.option(
    "--clip",
    default=DEFAULT_CLIP,
    show_default=True,
    metavar="ID|FOLDER",
    help="Only for checkpoints of the original code, which lack the tokenizer: the Hugging Face id of the CLIP that "
    "they were trained with, or a folder with its config.json and tokenizer.json.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FOLDER",
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Where to write the bundle; an existing bundle is replaced.",
)
@click.option(
    "--classes",
    type=PATH,
    metavar="FILE",
    help="Class names, one per line, whose embeddings the bundle carries, so that stale-run does not compute them. "
    "Default: the classes that the checkpoint was trained on, or ActivityNet's 200.",
)
@click.option(
    "--calibration",
    type=PATH,
    metavar="FOLDER",
    help="Training features (.npy files). The int8 graph takes the ranges of its activations from them. Without them, "
    "ort-int8 computes the ranges at run time, like ort-int8-dynamic, and there is no ort-fast, which is checked on "
    "them.",
)
@click.option(
    "--calibration-videos",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=64,
    show_default=True,
    help="Most videos of --calibration to use.",
)
@click.option(
    "--calibration-seed",
    type=int,
    metavar="N",
    default=0,
    show_default=True,
    help="Seed that decides which videos of --calibration are used.",
)
@click.option(
    "--validate",
    type=PATH,
    metavar="FILE",
    help="Annotations, in the formats that stale-eval reads. With --validation-features or --validate-videos, the mAP "
    "of every graph is measured, as stale-eval's default. If int8 loses more than --max-map-drop in a graph that "
    "stale-run loads, nothing is written; torch-int8, which only stale-bench runs, may lose more, with a warning.",
)
@click.option(
    "--validation-subset",
    metavar="NAME",
    default="validation",
    show_default=True,
    help="Subset of the annotations to measure mAP on.",
)
@click.option(
    "--video-info",
    type=PATH,
    metavar="FILE",
    help="CSV file with the columns video, subset and seconds, for annotations without subsets, such as the original "
    "code's video_info_new.csv.",
)
@click.option(
    "--validation-features", type=PATH, metavar="FOLDER", help="Features (.npy files) of the annotated videos."
)
@click.option(
    "--validate-videos",
    type=PATH,
    metavar="FOLDER",
    help="The annotated videos themselves, for --vision: mAP is measured with features of the float and of the int8 "
    "vision tower. If int8 loses more than --max-map-drop, the bundle gets the float one only. Without "
    "--validation-features, the float tower's features of these videos validate the localizer, too.",
)
@click.option(
    "--max-map-drop",
    type=Number(0, 100),
    metavar="PERCENT",
    default=0.5,
    show_default=True,
    help="How many points of mAP an int8 graph may lose against float. Layers are returned to float until it loses "
    "no more.",
)
@click.option(
    "--target",
    type=click.Choice(list(TARGETS)),
    default="portable",
    show_default=True,
    help="CPUs that the int8 graphs have to be exact on: portable for any CPU, or vnni for CPUs with VNNI "
    "instructions only, which allow weights of 8 bits.",
)
@click.option(
    "--weight-bits",
    type=click.IntRange(4, 8),
    metavar="N",
    help="Bits of an int8 weight, 4 to 8.  [default: 7 for portable, 8 for vnni]",
)
@click.option(
    "--text-precision",
    type=click.Choice(TEXT_PRECISIONS),
    default="fp32",
    show_default=True,
    help="Precision of the text encoder; int8 makes its file four times smaller.",
)
@click.option(
    "--vision",
    is_flag=False,
    flag_value=DEFAULT_VISION,
    metavar="ID|FOLDER",
    help="Also export the vision tower that computes features from videos, so that stale-run takes video files: the "
    "Hugging Face id of a CLIP, a folder with its config.json and weights in safetensors, or a folder with an image "
    "encoder in ONNX and its recipe.json. It has to be the tower that the training features were made with. "
    f"[without a value: {DEFAULT_VISION}]",
)
@click.option(
    "--recipe",
    type=PATH,
    metavar="FILE",
    help="How the training features were made, as JSON; for checkpoints that do not say so, such as those of the "
    "original code. Videos need it: at least snippet_s (seconds from a row of features to the next), frames and "
    "normalised.",
)
@click.option(
    "--graphs",
    cls=SpaceSeparated,
    type=click.Choice(ALL_GRAPHS),
    metavar="GRAPH ...",
    help=f"Graphs that the bundle gets, of {', '.join(ALL_GRAPHS)}; fewer make it smaller. stale-run and stale-bench "
    "have only the backends whose graphs are there. The network is compared with the float graph in any case.  "
    "[default: all]",
)
@click.option(
    "--sign",
    type=PATH,
    metavar="FILE",
    help="Sign the bundle with this private key (PEM, elliptic curve); stale-run --verify checks the signature.",
)
@click.version_option(__version__, prog_name=NAME)
def stale_export(
    ckpt: Path,
    clip: str,
    output: Path,
    classes: Path | None,
    calibration: Path | None,
    calibration_videos: int,
    calibration_seed: int,
    validate: Path | None,
    validation_subset: str,
    video_info: Path | None,
    validation_features: Path | None,
    validate_videos: Path | None,
    max_map_drop: float,
    target: str,
    weight_bits: int | None,
    text_precision: str,
    vision: str | None,
    recipe: Path | None,
    graphs: tuple[str, ...],
    sign: Path | None,
) -> None:
    """Export a trained STALE as a bundle, a folder that stale-run uses without PyTorch.

    Before the bundle is written, its graphs are compared with the network. If one that stale-run loads differs, or
    loses too much mAP in int8, nothing is written, and an existing bundle stays as it is.

    \b
    A checkpoint of stale-train:
      stale-export --ckpt best.pth
    A checkpoint of the original code, with the files of its CLIP at hand:
      stale-export --ckpt best.pth --clip clip/ -o my_bundle
    A faster int8 graph, with its mAP measured:
      stale-export --ckpt best.pth --calibration train_feats/ \\
        --validate annotations.json --validation-features val_feats/
    A small bundle, for one device:
      stale-export --ckpt best.pth --calibration train_feats/ --graphs ort-int8
    A bundle that takes video files:
      stale-export --ckpt best.pth --vision openai/clip-vit-base-patch16 \\
        --validate annotations.json --validate-videos val_videos/
    """  # noqa: D301 -- click reads the backslash
    _check_validation(
        validate=validate, features=validation_features, videos=validate_videos, video_info=video_info, vision=vision
    )
    graphs = graphs or ALL_GRAPHS
    try:
        check_graphs(graphs, vision=vision is not None)
    except ValueError as problem:
        raise click.UsageError(f"--graphs {problem}") from problem
    request = ExportRequest(
        checkpoint=ckpt,
        clip=clip,
        output=output,
        classes=classes,
        vision=vision,
        recipe=recipe,
        graphs=graphs,
        signing_key=sign,
        int8=Int8Options(
            calibration=calibration,
            calibration_videos=calibration_videos,
            calibration_seed=calibration_seed,
            annotations=validate,
            annotations_subset=validation_subset,
            video_info=video_info,
            validation_features=validation_features,
            validation_videos=validate_videos,
            max_map_drop=max_map_drop,
            target=target,
            weight_bits=weight_bits,
            text_precision=text_precision,
        ),
    )
    manifest = _export(request)
    console.echo(bundle_table(manifest))
    console.echo(f"\nsha256 of the bundle, for stale-run --expect-sha256: {manifest.sha256}")


def main() -> None:
    """Run ``stale-export``."""
    console.run_command(stale_export, NAME)


def _check_validation(
    *, validate: Path | None, features: Path | None, videos: Path | None, video_info: Path | None, vision: str | None
) -> None:
    """Make sure that the options about validation go together.

    Raises:
        click.UsageError: they do not.
    """
    if videos is not None and vision is None:
        raise click.UsageError(
            "--validate-videos without --vision; give the vision tower that computes their features, or "
            "--validation-features instead"
        )
    if validate is None:
        given = {"--validation-features": features, "--validate-videos": videos}
        for option in (option for option, value in given.items() if value is not None):
            raise click.UsageError(f"{option} without --validate; give the annotations of these videos")
        if video_info is not None:
            raise click.UsageError("--video-info without --validate; give the annotations whose subsets it says")
    elif features is None and videos is None:
        raise click.UsageError(
            "--validate without --validation-features or --validate-videos; give the features of the annotated videos, "
            "or with --vision the videos themselves"
        )


def _export(request: ExportRequest) -> Manifest:
    """Check everything that can be checked without PyTorch, then load it and export."""
    _check_output(request.output)
    prompts = read_prompts(request.classes) if request.classes is not None else None
    for doubt in describe_doubts(prompts.names) if prompts is not None else ():
        _say(doubt)
    recipe = read_recipe(request.recipe) if request.recipe is not None else UNKNOWN_RECIPE
    signer = Signer(request.signing_key) if request.signing_key is not None else None

    planned = 2 + count_stages(request.int8, vision=request.vision is not None, graphs=request.graphs)
    stages = Stages(planned, Progress(NAME).show)
    wait_passively()
    stages.enter("loading PyTorch")
    try:
        from stale_export.exporter import export_bundle
        from stale_model import read_checkpoint
    except ModuleNotFoundError as problem:
        raise MissingPackageError.for_extra(f"exporting needs {problem.name}", "export") from problem
    for library in NOISY_LOGGERS:
        logging.getLogger(library).setLevel(logging.ERROR)

    stages.enter(f"reading the checkpoint {request.checkpoint}")
    trained = read_checkpoint(request.checkpoint, request.clip)
    trained = _with_recipe(trained, recipe, request)
    prompts = prompts or Prompts.of(trained.classes or CLASSES)
    sign = signer.sign if signer is not None else None
    try:
        return export_bundle(
            trained,
            prompts,
            request.output,
            int8=request.int8,
            vision=request.vision,
            graphs=request.graphs,
            sign=sign,
            say=_say,
            stages=stages,
        )
    except OSError as problem:
        raise ExportError(
            f"-o {request.output}: {why_unwritten(problem)} (an existing bundle is unchanged)"
        ) from problem


def _with_recipe(trained: "TrainedStale", given: FeatureRecipe, request: ExportRequest) -> "TrainedStale":
    """Add what the user knows about the features of the training.

    Raises:
        RecipeError: the checkpoint says otherwise.
    """
    recipe = trained.features.recipe
    if names := given.differences(recipe):
        raise RecipeError(
            f"--recipe {request.recipe}: {given.tell_from(recipe, names)}, as the checkpoint says; correct it, or "
            "leave out --recipe"
        )
    return replace(trained, features=trained.features._replace(recipe=recipe.completed_by(given)))


def _check_output(output: Path) -> None:
    """Make sure that a bundle can be written, and remove what a killed export left beside it.

    Raises:
        click.UsageError: it cannot.
    """
    try:
        if not can_be_bundle(output):
            raise click.UsageError(
                f"-o {output}: exists and is not a bundle; give a new folder, or a bundle to replace"
            )
        if not output.absolute().parent.is_dir():
            raise click.UsageError(f"-o {output}: there is no folder {output.absolute().parent}; create it first")
        with workspace(output.resolve().parent):
            pass
    except OSError as problem:
        raise click.UsageError(f"-o {output}: {why_unwritten(problem)}") from problem


def _say(text: str) -> None:
    console.note(NAME, text)


if __name__ == "__main__":
    main()
