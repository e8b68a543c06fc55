"""Small image encoders in ONNX, as others publish them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.tiny import CHANNELS

SIZE = 8
RECIPE: Mapping[str, Any] = {
    "tower": "tiny",
    "image_size": SIZE,
    "interpolation": "bicubic",
    "resize": "crop",
    "mean": [0.5, 0.4, 0.3],
    "deviation": [0.25, 0.5, 1],
    "channel_order": "rgb",
    "snippet_s": 0.5,
    "frames": 1,
    "normalised": False,
}
WEIGHTS = np.random.default_rng(0).standard_normal((3 * SIZE * SIZE, CHANNELS), np.float32)
"""Of the encoder's only product, for pixels in the order (3, S, S)."""


def encoder_model(
    *,
    takes: str = "pixel_values",
    gives: Sequence[str] = ("image_embeds",),
    batch: int | str = "batch",
    bytes_: bool = False,
    width: int = CHANNELS,
    size: int | str = SIZE,
    extra_input: bool = False,
    mixes_batch: bool = False,
) -> onnx.ModelProto:
    """An encoder that multiplies pixels by ``WEIGHTS``; every output but the first is (B, 1, width).

    Args:
        takes: name of the input.
        gives: names of the outputs.
        batch: number of images, or a name for any number.
        bytes_: whether it takes bytes (B, S, S, 3) instead of normalised pixels (B, 3, S, S).
        width: of the embedding.
        size: S as the graph declares it.
        extra_input: whether it also wants token ids.
        mixes_batch: whether an embedding depends on the other images, as in training mode.
    """
    shape = [batch, size, size, 3] if bytes_ else [batch, 3, size, size]
    inputs = [helper.make_tensor_value_info(takes, TensorProto.UINT8 if bytes_ else TensorProto.FLOAT, shape)]
    nodes = []
    pixels = takes
    if bytes_:
        nodes += [
            helper.make_node("Cast", [takes], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["channels_first"], perm=[0, 3, 1, 2]),
        ]
        pixels = "channels_first"
    nodes.append(helper.make_node("Flatten", [pixels], ["flat"]))
    if mixes_batch:
        nodes.append(helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[0], keepdims=1))
        nodes.append(helper.make_node("Sub", ["flat", "mean"], ["centred"]))
    nodes.append(helper.make_node("MatMul", ["centred" if mixes_batch else "flat", "weights"], [gives[0]]))
    nodes += [helper.make_node("Unsqueeze", [gives[0], "axis"], [name]) for name in gives[1:]]
    outputs = [helper.make_tensor_value_info(gives[0], TensorProto.FLOAT, [batch, width])]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 1, width]) for name in gives[1:]]
    if extra_input:
        inputs.append(helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 7]))
    weights = np.resize(WEIGHTS, (len(WEIGHTS), width))
    constants = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1]), "axis")]
    graph = helper.make_graph(nodes, "encoder", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_encoder(folder: Path, *, file: str = "model.onnx", recipe: Mapping[str, Any] = RECIPE, **parts: Any) -> Path:
    """A folder with ``encoder_model(**parts)`` and its recipe."""
    folder.mkdir(exist_ok=True)
    onnx.save(encoder_model(**parts), folder / file)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder
