"""From a vision tower to the files of a bundle that embed images, verified."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from stale_export.drawn_images import draw_images
from stale_export.graph_builder import serialize
from stale_export.quantization import QuantizedGraph, count_integer_operators
from stale_export.say import Say
from stale_export.schemes import bits_for
from stale_export.stages import Stages
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import GraphSpec, QuantizationRecord, TensorSpec
from stale_runtime.bundle.vision_spec import VisionSpec
from stale_runtime.errors import BundleError, ExportError, ParityError, QuantizationError
from stale_runtime.inference.bundle_check import VISION_REPLAY
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.system.workspace import workspace
from stale_runtime.video.vision_encoder import VisionEncoder
from stale_runtime.video.vision_folder import VisionFolder, is_vision_folder, read_vision_folder

if TYPE_CHECKING:
    from stale_export.vision_graph import Pixels

LOWEST_FLOAT_COSINE = 0.9999
"""The float graph's embedding of an image has at least this cosine with PyTorch's, also after the mean over all images
is taken from both, because embeddings of different images may differ little."""
LOWEST_INT8_COSINE = 0.98
"""Without this cosine with the float graph's embedding an image means something else; then there is no int8 graph."""
COMPARED_IMAGES = 8
_RECORDED_IMAGES = 2
_TOKENS_AT_ONCE = 400
"""Tokens of a batch. More take longer for each image, because what a layer computes leaves the cache; so do fewer than
200, because the weights are then read more often. Measured on a Xeon with 2 MB of cache a core."""
Images = NDArray[np.uint8]
"""(B, S, S, 3)"""
Embeddings = NDArray[np.float32]
"""(B, C)"""


@dataclass(frozen=True, kw_only=True)
class ExportedVision:
    """What a bundle gets for its vision tower."""

    files: Mapping[str, bytes]
    """Content by file name."""
    spec: VisionSpec
    graphs: Mapping[str, GraphSpec]
    """By file name."""
    records: tuple[QuantizationRecord, ...]
    recording: Mapping[str, NDArray[np.generic]]
    """Images and their embeddings, for the self-test."""

    def without_int8(self) -> "ExportedVision":
        """The float tower alone."""
        return self.without({layout.VISION_ENCODER_INT8})

    def without(self, left_out: Collection[str]) -> "ExportedVision":
        """The tower without the graphs in some files.

        Raises:
            ExportError: no graph would be left.
        """
        if not self.files.keys() - set(left_out):
            raise ExportError(
                "the vision tower has no graph in int8, and one in float is not wanted; add vision-fp32 to --graphs"
            )
        has_int8 = layout.VISION_ENCODER_INT8 in self.files.keys() - set(left_out)
        return ExportedVision(
            files={name: content for name, content in self.files.items() if name not in left_out},
            spec=self.spec if has_int8 else replace(self.spec, int8_cosine=None),
            graphs={name: graph for name, graph in self.graphs.items() if name not in left_out},
            records=tuple(record for record in self.records if record.file not in left_out),
            recording={name: values for name, values in self.recording.items() if has_int8 or name != VISION_REPLAY},
        )


def export_vision(
    vision: str, *, channels: int, recipe: FeatureRecipe, target: str, say: Say, stages: Stages | None = None
) -> ExportedVision:
    """Make the image encoder of a bundle, in float and, if that is close enough, in int8.

    Args:
        vision: Hugging Face id of a CLIP, a folder with its files, or a folder with an ONNX file and ``recipe.json``.
        channels: C, the width of the network's features.
        recipe: how the network's features were made. What it leaves open is as the tower says.
        target: one of ``schemes.TARGETS``.
        say: called with results and warnings.
        stages: shows which stage the export is in; None to say their names, too.

    Raises:
        CheckpointError, RecipeError: the tower or its recipe cannot be used.
        ExportError: its embeddings have another width, or the network's features come from another tower.
        ParityError: the float graph differs from PyTorch's tower.
    """
    stages = stages or Stages.said_by(say)
    if is_vision_folder(Path(vision)):
        stages.enter(f"reading the image encoder {vision}")
        exported = _from_onnx(read_vision_folder(Path(vision), channels=channels), vision, recipe, target, say, stages)
    else:
        exported = _from_clip(vision, channels, recipe, target, say, stages)
    if missing := exported.spec.recipe.missing:
        say(
            f"warning: {', '.join(missing)} of the recipe unknown; stale-run needs them to compute the features of a "
            "video: give --recipe FILE"
        )
    return exported


def _from_clip(
    vision: str, channels: int, recipe: FeatureRecipe, target: str, say: Say, stages: Stages
) -> ExportedVision:
    import torch

    from stale_export.vision_graph import ImageSizes, Pixels, row_schemes, vision_graph_spec, vision_model
    from stale_export.vision_tower import read_vision_tower

    stages.enter(f"reading the vision tower {vision}")
    found = read_vision_tower(vision)
    tower, config = found.tower, found.tower.config
    sizes = ImageSizes.of(config)
    if config.projection_dim != channels:
        raise ExportError(
            f"--vision {vision}: its embeddings are {config.projection_dim} wide, the network's features {channels}; "
            "give the tower that the features were made with"
        )
    recipe = _complete(vision, recipe, found.recipe, say)
    assert recipe.mean is not None
    assert recipe.deviation is not None
    pixels = Pixels(recipe.mean, recipe.deviation)
    spec = VisionSpec(
        recipe=recipe,
        input=layout.IMAGES,
        takes_bytes=True,
        output=layout.IMAGE_EMBEDDINGS,
        batch=max(1, min(8, _TOKENS_AT_ONCE // sizes.tokens)),
    )
    images = draw_images(COMPARED_IMAGES, sizes.image)
    stages.enter("exporting the vision tower")
    model = serialize(vision_model(tower, pixels))
    with torch.no_grad():
        normalised = torch.from_numpy(_normalise(images, pixels))
        expected = np.concatenate([tower(pixel_values=image[None]).image_embeds.numpy() for image in normalised])
    got = _embed(model, spec, channels, layout.VISION_ENCODER, images)
    spec = replace(spec, cosine=_require_same(got, expected))
    stages.enter("quantizing the vision tower")
    schemes = row_schemes(config.num_hidden_layers, bits_for(target))
    int8 = serialize(vision_model(tower, pixels, schemes))
    record = _record(int8, len(schemes), target)
    graph = QuantizedGraph(model=int8, record=record)
    return _finish(model, graph, spec, vision_graph_spec(sizes.image, channels), images, got, say)


def _from_onnx(
    folder: VisionFolder, vision: str, recipe: FeatureRecipe, target: str, say: Say, stages: Stages
) -> ExportedVision:
    spec, channels, S = folder.spec, folder.channels, folder.spec.image_size
    recipe = _complete(vision, recipe, spec.recipe, say)
    if spec.takes_bytes and (recipe.mean, recipe.deviation) != (spec.recipe.mean, spec.recipe.deviation):
        raise ExportError(
            f"--vision {vision}: {folder.file} normalises pixels itself, otherwise than the network's recipe says; "
            "give a tower that takes normalised pixels"
        )
    spec = replace(spec, recipe=recipe)
    shape = ("B", S, S, 3) if spec.takes_bytes else ("B", 3, S, S)
    interface = GraphSpec(
        inputs=(TensorSpec(name=spec.input, dtype="uint8" if spec.takes_bytes else "float32", shape=shape),),
        outputs=(TensorSpec(name=spec.output, dtype="float32", shape=("B", channels)),),
    )
    stages.enter("embedding drawn images")
    images = draw_images(COMPARED_IMAGES, S)
    got = _embed(folder.model, spec, channels, folder.file, images)
    stages.enter("quantizing the image encoder")
    graph = _quantize(folder.model, target, say)
    if graph is not None:  # its ranges are those of the whole batch
        spec = replace(spec, batch=1)
    return _finish(folder.model, graph, spec, interface, images, got, say)


def _finish(
    model: bytes,
    int8: QuantizedGraph | None,
    spec: VisionSpec,
    interface: GraphSpec,
    images: Images,
    embeddings: Embeddings,
    say: Say,
) -> ExportedVision:
    """Compare int8 with float, leave it out if it differs too much, and record some images for the self-test."""
    files, records = {layout.VISION_ENCODER: model}, []
    recording: dict[str, NDArray[np.generic]] = {
        layout.IMAGES: images[:_RECORDED_IMAGES],
        layout.IMAGE_EMBEDDINGS: embeddings[:_RECORDED_IMAGES],
    }
    if spec.cosine is not None:
        say(f"{layout.VISION_ENCODER}: cosine of its and PyTorch's embeddings at least {spec.cosine:.6f}")
    if int8 is not None:
        got = _embed(int8.model, spec, embeddings.shape[1], layout.VISION_ENCODER_INT8, images)
        cosine, centred = lowest_image_cosines(got, embeddings)
        if cosine >= LOWEST_INT8_COSINE:
            say(
                f"{layout.VISION_ENCODER_INT8}: cosine of int8 and float embeddings at least {cosine:.4f}, without "
                f"their mean {centred:.4f}"
            )
            spec = replace(spec, int8_cosine=cosine)
            files[layout.VISION_ENCODER_INT8] = int8.model
            records.append(int8.record)
            recording[VISION_REPLAY] = got[:_RECORDED_IMAGES]
        else:
            say(
                f"warning: no {layout.VISION_ENCODER_INT8}: in int8 an image's embedding has a cosine of {cosine:.3f} "
                f"with the float embedding, expected at least {LOWEST_INT8_COSINE}; stale-run uses the float one"
            )
    return ExportedVision(
        files=files, spec=spec, graphs=dict.fromkeys(files, interface), records=tuple(records), recording=recording
    )


def lowest_image_cosines(got: Embeddings, expected: Embeddings) -> tuple[float, float]:
    """The lowest cosine of an image's two embeddings, as they are, and after the mean over all images is subtracted.

    Args:
        got: (B, C), B at least 2.
        expected: (B, C)

    Returns:
        Both cosines; NaN where an embedding has no length.
    """
    first, second = got.astype(np.float64), expected.astype(np.float64)
    mean = second.mean(axis=0)
    return _lowest_cosine(first, second), _lowest_cosine(first - mean, second - mean)


def _lowest_cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    with np.errstate(invalid="ignore"):
        cosines = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return float(cosines.min())  # NaN if any is NaN


def _require_same(got: Embeddings, expected: Embeddings) -> float:
    """The lowest cosine of a float graph's embeddings with PyTorch's.

    Raises:
        ParityError: it is too low.
    """
    cosine, centred = lowest_image_cosines(got, expected)
    if not min(cosine, centred) >= LOWEST_FLOAT_COSINE:
        raise ParityError(
            f"{layout.VISION_ENCODER}: an image's embedding has a cosine of {cosine:.6f} with PyTorch's, {centred:.6f} "
            f"without their mean, expected at least {LOWEST_FLOAT_COSINE}; nothing was written"
        )
    return cosine


def _complete(vision: str, trained: FeatureRecipe, tower: FeatureRecipe, say: Say) -> FeatureRecipe:
    """How features are made with a tower: as those of the training, and as the tower says where that is unknown.

    Raises:
        ExportError: the features of the training come from another tower.
    """
    different = trained.differences(tower)
    if names := [name for name in ("tower_sha256", "image_size") if name in different]:
        raise ExportError(
            f"--vision {vision}: {tower.tell_from(trained, names)}, with which the features of the training were made; "
            "give the tower that they were made with"
        )
    if "tower" in different:
        say(
            f"warning: the features of the training were made with {trained.tower}; make sure that {vision} is the same"
        )
        trained = replace(trained, tower=None)
    if changed := [name for name in different if name != "tower"]:
        say(f"images are prepared as for the features of the training: {trained.tell_from(tower, changed)}")
    return trained.completed_by(tower)


def _normalise(images: Images, pixels: "Pixels") -> NDArray[np.float32]:
    """Normalised pixels, as Hugging Face computes them: (B, S, S, 3) -> (B, 3, S, S)."""
    normalised = (images.astype(np.float64) / 255 - pixels.mean) / pixels.deviation
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2), dtype=np.float32)


def _embed(model: bytes, spec: VisionSpec, channels: int, name: str, images: Images) -> Embeddings:
    try:
        return VisionEncoder(model, spec, channels=channels, name=name).embed(images)
    except BundleError as problem:
        raise ExportError(f"{problem}") from problem


def _quantize(model: bytes, target: str, say: Say) -> QuantizedGraph | None:
    """A foreign graph with its products in int8, by ONNX Runtime's own tool; None if there is nothing to quantize."""
    parsed = onnx.load_from_string(model)
    weights = {tensor.name for tensor in parsed.graph.initializer}
    products = sum(node.op_type in ("MatMul", "Gemm") and node.input[1] in weights for node in parsed.graph.node)
    if not products or count_integer_operators(model):
        say(f"no {layout.VISION_ENCODER_INT8}: the image encoder has no products with weights in float")
        return None
    with workspace() as folder:
        source, result = folder / "float.onnx", folder / "int8.onnx"
        source.write_bytes(model)
        try:
            quantize_dynamic(
                source,
                result,
                per_channel=True,
                reduce_range=target == "portable",
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Gemm"],
            )
            quantized = result.read_bytes()
            return QuantizedGraph(model=quantized, record=_record(quantized, products, target))
        except Exception as problem:  # the tool raises many kinds for graphs that it does not understand
            first = " ".join(str(problem).split())[:160] or type(problem).__name__
            say(f"warning: no {layout.VISION_ENCODER_INT8}: ONNX Runtime cannot quantize the image encoder ({first})")
            return None


def _record(model: bytes, expected: int, target: str) -> QuantizationRecord:
    """Count the integer operators of an int8 graph.

    Raises:
        QuantizationError: not all of its products are computed in integers.
    """
    found = count_integer_operators(model)
    if found != expected:
        raise QuantizationError(
            f"{layout.VISION_ENCODER_INT8}: ONNX Runtime computes {found} of {expected} products in integers; nothing "
            "was written"
        )
    return QuantizationRecord(
        file=layout.VISION_ENCODER_INT8,
        kind="dynamic",
        target=target,
        weight_bits=bits_for(target),
        integer_operators_expected=expected,
        integer_operators_found=found,
    )
