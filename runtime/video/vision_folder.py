"""Folders with an image encoder in ONNX and a feature recipe, as others publish them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle.bundle import LARGEST_FILE
from stale_runtime.bundle.manifest import LARGEST_AXIS
from stale_runtime.bundle.onnx_session import TOWER_LIMITS, checked_output, open_session, run_session
from stale_runtime.bundle.vision_spec import VisionSpec
from stale_runtime.errors import COPY_AGAIN, BundleError, RecipeError
from stale_runtime.inputs.recipe import UNKNOWN, FeatureRecipe, read_recipe
from stale_runtime.system.files import read_bytes, reason

RECIPE_FILE: Final = "recipe.json"
OUTPUT_NAMES = ("image_embeds", "image_embeddings", "image_features", "embeddings")
"""The output to take if several fit, the first of these that is there."""
FILE_NAMES = ("vision_encoder.onnx", "vision_model.onnx", "model.onnx")
"""The file to take if there are several, the first of these that is there."""
LOWEST_BATCH_COSINE = 0.9999
"""How well an image's embedding alone and in a batch have to agree."""
_BATCH = 8
_BATCHES = (1, 3)
_NEEDED = ("image_size", "mean", "deviation", "channel_order")


@dataclass(frozen=True, kw_only=True)
class VisionFolder:
    """An image encoder that is ready to be loaded."""

    file: str
    """Name of the ONNX file in the folder."""
    model: bytes
    """Its content."""
    spec: VisionSpec
    channels: int
    """C, the width of an embedding."""


def is_vision_folder(path: Path) -> bool:
    """Whether a path is a folder with an ONNX file in it."""
    return path.is_dir() and any(path.glob("*.onnx"))


def read_vision_folder(folder: Path, *, channels: int | None = None) -> VisionFolder:
    """Read an image encoder and its recipe, and make sure that it is one.

    The graph has one input, images as (B, 3, S, S) of normalised float32 or (B, S, S, 3) of bytes, and an output
    (B, C). B may have any size.

    Args:
        folder: contains one ``.onnx`` file, or one with a name of ``FILE_NAMES``, and ``recipe.json``.
        channels: C, the width that embeddings have to have; None for any.

    Raises:
        RecipeError: a file is missing, cannot be used, or is unsafe; the width is another; batches disagree.
    """
    if not folder.is_dir():
        found = "not a folder" if folder.exists() else "no such folder"
        raise RecipeError(
            f"{folder}: {found}, expected one with an image encoder as ONNX, such as {FILE_NAMES[0]}, and its "
            f"{RECIPE_FILE}; give its path"
        )
    recipe = _read_recipe(folder)
    path = _find_model(folder)
    model = read_bytes(path, limit=LARGEST_FILE, error=RecipeError)
    try:
        session = open_session(model, name=str(path), threads=1, limits=TOWER_LIMITS)
        return _examine(folder, path, model, session, recipe, channels)
    except BundleError as problem:  # its remedies are those for a bundle
        text = str(problem).removesuffix(f"; {COPY_AGAIN}").removeprefix(f"{path}: ")
        raise RecipeError(f"{path}: {text}; export the image encoder again, as plain ONNX in one file") from problem


def _examine(
    folder: Path, path: Path, model: bytes, session: Any, recipe: FeatureRecipe, channels: int | None
) -> VisionFolder:
    """Find input and output of a loaded graph, and run it."""
    sha256 = hashlib.sha256(model).hexdigest()
    if recipe.tower_sha256 not in (None, sha256):
        raise RecipeError(
            f"{folder / RECIPE_FILE}: is of a tower with sha256 {recipe.tower_sha256}, {path.name} has {sha256}; give "
            "the recipe of this tower, or leave tower_sha256 out"
        )
    recipe = replace(recipe, tower=recipe.tower or folder.resolve().name, tower_sha256=sha256)
    name, takes_bytes = _find_input(session, recipe, path)
    output, C = _find_output(session, channels, path)
    spec = VisionSpec(recipe=recipe, input=name, takes_bytes=takes_bytes, output=output, batch=1)
    return VisionFolder(
        file=path.name, model=model, spec=replace(spec, batch=_find_batch(session, spec, C, path)), channels=C
    )


def _read_recipe(folder: Path) -> FeatureRecipe:
    if not (folder / RECIPE_FILE).exists():
        raise RecipeError(
            f"{folder}: no {RECIPE_FILE}, expected one that says how the image encoder gets its images, at least "
            f"{', '.join(_NEEDED)}; write it as docs/features.md shows"
        )
    recipe = read_recipe(folder / RECIPE_FILE)
    if unknown := [name for name in _NEEDED if getattr(recipe, name) is None]:
        raise RecipeError(
            f"{folder / RECIPE_FILE}: {', '.join(unknown)} {UNKNOWN}, but the image encoder needs it; write down what "
            "it was trained with"
        )
    return recipe


def _find_model(folder: Path) -> Path:
    try:
        found = {path.name: path for path in sorted(folder.glob("*.onnx"))}
    except OSError as problem:
        raise RecipeError(f"{folder}: {reason(problem)}") from problem
    for name in FILE_NAMES:
        if name in found:
            return found[name]
    if len(found) != 1:
        listed = ", ".join(found)[:200] or "none"
        raise RecipeError(
            f"{folder}: {len(found)} .onnx files ({listed}), expected one, or {FILE_NAMES[0]}; give the folder of an "
            "image encoder"
        )
    return next(iter(found.values()))


def _find_input(session: Any, recipe: FeatureRecipe, path: Path) -> tuple[str, bool]:
    """Name of the input, and whether it takes bytes."""
    S = recipe.image_size
    layouts = {"tensor(float)": [3, S, S], "tensor(uint8)": [S, S, 3]}
    values = session.get_inputs()
    listed = _listed(values)
    if len(values) != 1 or values[0].type not in layouts or len(values[0].shape) != 4:
        raise RecipeError(
            f"{path}: takes {listed}, expected one input: images (B, 3, {S}, {S}) of normalised float32, or "
            f"(B, {S}, {S}, 3) of bytes; export the image encoder alone"
        )
    (value,) = values
    batch, *axes = value.shape
    if any(isinstance(axis, int) and axis != size for axis, size in zip(axes, layouts[value.type], strict=True)):
        raise RecipeError(
            f"{path}: takes {listed}, expected {['B', *layouts[value.type]]}; correct image_size in {RECIPE_FILE}, or "
            "export the image encoder again"
        )
    if isinstance(batch, int):
        raise RecipeError(
            f"{path}: takes {listed}, expected batches of any size; export it with a batch axis that may vary"
        )
    return value.name, value.type == "tensor(uint8)"


def _find_output(session: Any, channels: int | None, path: Path) -> tuple[str, int]:
    """Name and width of the output with an embedding of each image."""
    flat = {
        value.name: value.shape[1]
        for value in session.get_outputs()
        if value.type == "tensor(float)" and len(value.shape) == 2 and isinstance(value.shape[1], int)
    }
    fitting = {name: C for name, C in flat.items() if channels == C} if channels is not None else flat
    wanted = "C" if channels is None else channels
    chosen = next((name for name in OUTPUT_NAMES if name in fitting), None)
    if chosen is None and len(fitting) == 1:
        (chosen,) = fitting
    if chosen is None or not 1 <= fitting[chosen] <= LARGEST_AXIS:
        got = _listed(session.get_outputs())
        if not fitting and len(flat) == 1 and channels is not None:
            remedy = f"give a tower whose embeddings are {channels} wide, the one that made the training features"
        else:
            remedy = f"call the output with the embeddings {OUTPUT_NAMES[0]}"
        raise RecipeError(f"{path}: gives {got}, expected one output (B, {wanted}) of float32; {remedy}")
    return chosen, fitting[chosen]


def _find_batch(session: Any, spec: VisionSpec, channels: int, path: Path) -> int:
    """Run the graph on drawn images, alone and together, and say how many images it may get at once.

    Raises:
        RecipeError: the embeddings alone and in a batch differ.
        BundleError: it fails, or gives other shapes or numbers that are not finite.
    """
    S, count = spec.image_size, sum(_BATCHES)
    drawn = np.random.default_rng(0).integers(0, 256, (count, S, S, 3), dtype=np.uint8)
    drawn[: count // 2] //= 4  # some darker ones
    images: NDArray[Any] = drawn
    if not spec.takes_bytes:
        images = (drawn / 127.5 - 1).astype(np.float32).transpose(0, 3, 1, 2)

    def embed(batch: int) -> Any:
        parts = []
        for start in range(0, count, batch):
            (output,) = run_session(session, [spec.output], {spec.input: images[start : start + batch]})
            size = min(batch, count - start)
            parts.append(checked_output(str(path), output, (size, channels)))
        return np.concatenate(parts).astype(np.float64)

    alone, together = (embed(batch) for batch in _BATCHES)
    if np.array_equal(alone, together):
        return _BATCH
    lengths = np.linalg.norm(alone, axis=1) * np.linalg.norm(together, axis=1)
    cosine = float(((alone * together).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)).min())
    if not cosine >= LOWEST_BATCH_COSINE:
        raise RecipeError(
            f"{path}: an image in a batch of {_BATCHES[1]} gets another embedding than alone (cosine {cosine:.4f}, "
            f"expected at least {LOWEST_BATCH_COSINE}); export it in evaluation mode"
        )
    return 1


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"{value.name} {value.type} {value.shape}" for value in values)[:200]
