"""From images to embeddings: the vision tower of a bundle, or of a folder with an ONNX file."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.onnx_session import TOWER_LIMITS, Processor, checked_output, open_session, run_session
from stale_runtime.bundle.vision_spec import Precision, VisionSpec
from stale_runtime.errors import COPY_AGAIN, BundleError
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.video.vision_folder import read_vision_folder

VISION_FILES: Final[dict[Precision, str]] = {"fp32": layout.VISION_ENCODER, "int8": layout.VISION_ENCODER_INT8}
"""The file of each precision in a bundle."""


class VisionEncoder:
    """A vision tower in ONNX Runtime. An image gets the same embedding, to the bit, in any batch."""

    def __init__(
        self,
        model: bytes,
        spec: VisionSpec,
        *,
        channels: int,
        name: str,
        threads: int = 1,
        processor: Processor = "cpu",
    ) -> None:
        """Load a tower; ``open`` and ``open_folder`` are more convenient.

        Args:
            model: an ONNX file's content.
            spec: its input and output, and how pixels are normalised.
            channels: C, the width of an embedding.
            name: name of the graph, for messages.
            threads: threads an operator may use.
            processor: what computes the embeddings.

        Raises:
            BundleError: it is not such a graph.
            BackendError: a GPU is asked for, and ONNX Runtime cannot use one here.
        """
        self.spec, self.channels, self.name = spec, channels, name
        self._session = open_session(model, name=name, threads=threads, limits=TOWER_LIMITS, processor=processor)
        _require_images(self._session, spec, name)
        mean, deviation = (np.asarray(values, np.float64) for values in (spec.recipe.mean, spec.recipe.deviation))
        self._scale = (1 / (255 * deviation)).astype(np.float32)  # (3,)
        self._shift = (-mean / deviation).astype(np.float32)  # (3,)

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        precision: Precision | None = None,
        *,
        threads: int = 1,
        processor: Processor = "cpu",
    ) -> "VisionEncoder":
        """Read the vision tower of a bundle.

        Args:
            bundle: was exported with a vision tower.
            precision: ``fp32`` or ``int8``; None for int8 if the bundle has it, else fp32.
            threads: threads an operator may use.
            processor: what computes the embeddings.

        Raises:
            BundleError: the bundle has no vision tower, or none in this precision, or it cannot be read.
            BackendError: a GPU is asked for, and ONNX Runtime cannot use one here.
        """
        spec, files = bundle.manifest.vision, bundle.manifest.files
        found: list[Precision] = [known for known, file in VISION_FILES.items() if file in files]
        if spec is None or not found:
            raise BundleError(
                f"{bundle.path}: the bundle has no vision tower, which videos need; give features (.npy files), or a "
                "bundle that was exported with stale-export --vision"
            )
        if precision is None:
            precision = "int8" if "int8" in found else "fp32"
        name = VISION_FILES[precision]
        if precision not in found:
            raise BundleError(f"{bundle.path}: the bundle has no vision tower in {precision}; use {found[0]}")
        return cls(
            bundle.read(name),
            spec,
            channels=bundle.manifest.channels,
            name=name,
            threads=threads,
            processor=processor,
        )

    @classmethod
    def open_folder(cls, folder: Path, *, channels: int | None = None, threads: int = 1) -> "VisionEncoder":
        """Read a folder with an ONNX file and ``recipe.json``, see ``read_vision_folder``.

        Args:
            folder: the folder.
            channels: C, the width that an embedding has to have; None for any.
            threads: threads an operator may use.

        Raises:
            RecipeError: the folder has no usable tower.
        """
        found = read_vision_folder(folder, channels=channels)
        name = str(folder / found.file)
        return cls(found.model, found.spec, channels=found.channels, name=name, threads=threads)

    @property
    def recipe(self) -> FeatureRecipe:
        """How features are made with this tower."""
        return self.spec.recipe

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images.

        Args:
            images: (B, S, S, 3), the channels in the recipe's order; B may be 0.

        Returns:
            (B, C), not normalised.

        Raises:
            ValueError: the images have another type or shape.
            BundleError: the tower fails, or gives numbers that are not finite.
        """
        S = self.spec.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (S, S, 3):
            raise ValueError(f"images of {images.dtype} {images.shape}, expected uint8 (B, {S}, {S}, 3)")
        found = np.empty((len(images), self.channels), np.float32)
        for start in range(0, len(images), self.spec.batch):
            batch = images[start : start + self.spec.batch]
            inputs = {self.spec.input: batch if self.spec.takes_bytes else self._normalised(batch)}
            (output,) = run_session(self._session, [self.spec.output], inputs)
            found[start : start + len(batch)] = checked_output(self.name, output, (len(batch), self.channels))
        return found

    def _normalised(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The pixels as the tower takes them: (B, S, S, 3) -> (B, 3, S, S)."""
        B, S, _, _ = images.shape
        pixels = np.empty((B, 3, S, S), np.float32)
        np.multiply(images.transpose(0, 3, 1, 2), self._scale[:, None, None], out=pixels)
        pixels += self._shift[:, None, None]
        return pixels


def average_frames(embeddings: NDArray[np.float32], recipe: FeatureRecipe) -> NDArray[np.float32]:
    """Make rows of features of the embeddings of their frames, as the recipe says.

    Args:
        embeddings: (R * n, C) of n frames a row, in order.
        recipe: says n, and whether rows are normalised; what is unknown counts as 1 and no.

    Returns:
        (R, C), the mean over the frames; if rows are normalised, divided by its Euclidean length.

    Raises:
        ValueError: the embeddings are not those of whole rows.
    """
    frames = recipe.frames or 1
    if len(embeddings) % frames:
        raise ValueError(f"{len(embeddings)} embeddings, expected a multiple of {frames}, the frames a row")
    rows = embeddings
    if frames > 1:
        rows = embeddings.reshape(-1, frames, embeddings.shape[1]).mean(axis=1, dtype=np.float64).astype(np.float32)
    if recipe.normalised:
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return rows


def _require_images(session: Any, spec: VisionSpec, name: str) -> None:
    """Make sure that a graph takes images as the manifest says, and nothing else."""
    S = spec.image_size
    kind, shape = ("tensor(uint8)", [S, S, 3]) if spec.takes_bytes else ("tensor(float)", [3, S, S])
    inputs, outputs = session.get_inputs(), [value.name for value in session.get_outputs()]
    fits = len(inputs) == 1 and (inputs[0].name, inputs[0].type) == (spec.input, kind)
    axes = zip(inputs[0].shape[1:], shape, strict=False) if fits else ()
    fits = fits and len(inputs[0].shape) == 4 and all(axis == size or not isinstance(axis, int) for axis, size in axes)
    if not fits or spec.output not in outputs:
        got = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)[:160]
        raise BundleError(
            f"{name}: a graph from {got} to {', '.join(outputs)[:80]}, expected one from {spec.input} {kind} "
            f"{['B', *shape]} to {spec.output}; {COPY_AGAIN}"
        )
