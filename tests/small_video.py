"""Short videos, and a vision tower that is small enough for tests."""

import hashlib
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import FileRecord, Manifest
from stale_runtime.bundle.vision_spec import VisionSpec
from stale_runtime.inputs.recipe import FeatureRecipe
from tests.runtime.helpers import altered
from tests.tiny import CHANNELS

SIDE = 32
RECIPE = FeatureRecipe(
    tower="small",
    image_size=SIDE,
    interpolation="bicubic",
    resize="crop",
    mean=(0.5, 0.5, 0.5),
    deviation=(0.25, 0.25, 0.25),
    channel_order="rgb",
    snippet_s=0.2,
    frames=1,
    normalised=False,
)
IMAGES, EMBEDDINGS = "images", "image_embeddings"


def write_clip(path: Path, seconds: float, *, fps: int = 25, seed: int = 0, size: tuple[int, int] = (96, 64)) -> Path:
    """A video of coloured tiles that move, and change every second."""
    import av

    W, H = size
    dice = np.random.default_rng(seed)
    scenes = dice.integers(0, 256, (int(seconds) + 1, 4, 6, 3), dtype=np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=Fraction(fps), options={"b": "2000000"})
        stream.width, stream.height = W, H
        for n in range(round(seconds * fps)):
            tiles = scenes[n // fps].repeat(H // 4, axis=0).repeat(W // 6, axis=1)  # (H, W, 3)
            frame = av.VideoFrame.from_ndarray(np.roll(tiles, n, axis=1), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def tower_bytes(seed: int = 0) -> bytes:
    """A vision tower: tiles of 4 by 4 pixels are averaged and projected. Bytes (B, S, S, 3) -> (B, C)."""
    inputs = (SIDE // 4) ** 2 * 3
    weights = np.random.default_rng(seed).standard_normal((inputs, CHANNELS)) / np.sqrt(inputs)
    nodes = [
        helper.make_node("Cast", [IMAGES], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["tiles"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["tiles"], ["flat"]),
        helper.make_node("Sub", ["flat", "middle"], ["centred"]),
        helper.make_node("MatMul", ["centred", "weights"], [EMBEDDINGS]),
    ]
    constants = {"middle": np.float32(127.5), "weights": (weights / 32).astype(np.float32)}
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, ["B", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(EMBEDDINGS, TensorProto.FLOAT, ["B", CHANNELS])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_tower(folder: Path, recipe: FeatureRecipe = RECIPE) -> Path:
    """A folder with that tower and its recipe, as others publish them."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(tower_bytes())
    (folder / "recipe.json").write_bytes(json.dumps(recipe.to_json()).encode())
    return folder


def with_tower(bundle: Path, copy: Path, recipe: FeatureRecipe = RECIPE) -> Path:
    """A copy of a bundle that has that tower, too."""
    model = tower_bytes()
    sha256 = hashlib.sha256(model).hexdigest()
    spec = VisionSpec(
        recipe=replace(recipe, tower_sha256=sha256), input=IMAGES, takes_bytes=True, output=EMBEDDINGS, batch=1
    )
    manifest = Manifest.from_bytes((bundle / layout.MANIFEST).read_bytes())
    record = FileRecord(sha256=sha256, size=len(model))
    altered(bundle, copy, files={**manifest.files, layout.VISION_ENCODER: record}, vision=spec)
    (copy / layout.VISION_ENCODER).write_bytes(model)
    assert json.loads((copy / layout.MANIFEST).read_bytes())["vision"]
    return copy
