"""The demo's towers as files: the text tower as on Hugging Face, and the image tower as ONNX with its recipe."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from transformers import CLIPConfig

from stale_model.demo.demo_towers import DEVIATION, MEAN, SIDE, DemoTowers, ImageTower, normalise_pixels
from stale_runtime.errors import ParityError
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.video.vision_encoder import VisionEncoder
from stale_runtime.video.vision_folder import FILE_NAMES, OUTPUT_NAMES, RECIPE_FILE

SNIPPET_S: Final = 0.5
LARGEST_DIFFERENCE = 1e-3
"""Between embeddings of PyTorch and ONNX Runtime, which are about 10 long."""


def text_tower_files(towers: DemoTowers) -> dict[str, bytes]:
    """The content of a folder with the text tower by file name, as on Hugging Face."""
    text_config = towers.text.config
    config = CLIPConfig(
        text_config=text_config.to_dict(),
        projection_dim=text_config.projection_dim,
        architectures=["CLIPTextModelWithProjection"],
        dtype="float32",
    )
    weights = {name: value.contiguous() for name, value in towers.text.state_dict().items()}
    return {
        "config.json": config.to_json_string(use_diff=False).encode(),
        "tokenizer.json": towers.tokenizer.to_str(pretty=True).encode(),
        "model.safetensors": save(weights, metadata={"format": "pt"}),
    }


def write_vision_folder(folder: Path, towers: DemoTowers, images: NDArray[np.uint8]) -> None:
    """Write the image tower as ``stale-features --vision`` and ``stale-export --vision`` take it, and check it.

    Args:
        folder: an existing one.
        towers: trained ones.
        images: (B, SIDE, SIDE, 3), on which the exported tower is compared with PyTorch's.

    Raises:
        ParityError: the exported tower gives other embeddings than PyTorch's.
        OSError: the folder cannot be written.
    """
    (folder / FILE_NAMES[0]).write_bytes(_export(towers.image))
    recipe = FeatureRecipe(
        tower="the demo's",
        image_size=SIDE,
        interpolation="bilinear",
        resize="squash",
        mean=MEAN,
        deviation=DEVIATION,
        channel_order="rgb",
        snippet_s=SNIPPET_S,
        frames=1,
        normalised=False,
    )
    (folder / RECIPE_FILE).write_text(json.dumps(recipe.to_json(), indent=1) + "\n")
    found = VisionEncoder.open_folder(folder).embed(images)
    with torch.inference_mode():
        expected = towers.image(normalise_pixels(images)).numpy()
    if not (difference := float(np.abs(found - expected).max())) <= LARGEST_DIFFERENCE:
        raise ParityError(
            f"{folder / FILE_NAMES[0]}: embeddings differ from PyTorch's by {difference:.2g}, expected at most "
            f"{LARGEST_DIFFERENCE:g}; nothing was written"
        )


def _export(tower: ImageTower) -> bytes:
    """The tower as ONNX, for any number of images."""
    with _quiet_exporter():
        program = torch.onnx.export(
            tower,
            (torch.zeros(2, 3, SIDE, SIDE),),
            dynamo=True,
            input_names=["pixels"],
            output_names=[OUTPUT_NAMES[0]],
            dynamic_shapes=({0: torch.export.Dim("B")},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")  # where in which file on this machine it was traced
    return bytes(model.SerializeToString())


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without PyTorch's warnings of its own deprecated calls, and of torchvision, which is not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
