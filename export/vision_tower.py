"""CLIP's vision tower from a Hugging Face folder: its configuration, its weights, and how it wants its images."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.utils.hub import cached_file

from stale_export.vision_graph import ACTIVATIONS, ImageSizes
from stale_model.checkpoints.clip import read_pretrained
from stale_model.checkpoints.hub import is_here_only, refuse_out_of_reach, show_only_downloads
from stale_runtime.errors import CheckpointError
from stale_runtime.inputs.recipe import CLIP_DEVIATION, CLIP_MEAN, LARGEST_IMAGE, FeatureRecipe
from stale_runtime.system.files import MEGABYTE, read_bytes

LARGEST_TOWER = 2**31 - 2**24
"""Bytes of a tower's weights; an ONNX file, which is one protobuf message, can have 2 GiB."""
MOST_VISION_LAYERS = 64
"""Layers; the largest published CLIP has 48."""
LARGEST_CONFIGURATION = MEGABYTE
_SIZES = {
    "hidden_size": 2**14,
    "intermediate_size": 2**16,
    "projection_dim": 2**14,
    "num_hidden_layers": MOST_VISION_LAYERS,
    "num_attention_heads": 2**10,
    "image_size": LARGEST_IMAGE,
    "patch_size": LARGEST_IMAGE,
}
"""The sizes in a configuration, and how large they may be."""
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for them, which preprocessor_config.json has."""


@dataclass(frozen=True, kw_only=True)
class VisionTower:
    """The vision half of CLIP."""

    tower: CLIPVisionModelWithProjection
    """In evaluation mode, float32."""
    recipe: FeatureRecipe
    """What the folder says about how the tower gets its images; the rest is unknown."""


def read_vision_tower(vision: str) -> VisionTower:
    """Read a vision tower. Nothing is unpickled, and no code of the folder is run.

    Args:
        vision: a Hugging Face id, or a folder with ``config.json``, weights in safetensors, and usually
            ``preprocessor_config.json``; without it images are prepared as for OpenAI's CLIP.

    Raises:
        CheckpointError: they are missing or damaged, or describe no CLIP that can be exported.
    """
    folder = Path(vision)
    name = folder.resolve().name if folder.is_dir() else vision
    try:
        config = _vision_config(_read_json(vision, "config.json"))
    except Exception as problem:  # transformers raises many kinds, for missing files and for wrong ones
        refuse_out_of_reach(
            vision, problem, option="--vision", files="config.json, preprocessor_config.json and model.safetensors"
        )
        here = "" if folder.exists() else "there is no such folder here, and "
        raise CheckpointError(
            f"--vision {vision}: {here}no CLIP configuration ({_shortened(problem)}); give a Hugging Face id "
            "that can be reached from here, a folder with config.json and weights in safetensors, or one with an .onnx "
            "file and recipe.json"
        ) from problem
    try:
        images = _image_recipe(
            _read_json(vision, "preprocessor_config.json", required=False) or {}, ImageSizes.of(config).image
        )
    except (ValueError, TypeError, OverflowError) as problem:
        raise CheckpointError(
            f"--vision {vision}: preprocessor_config.json: {_shortened(problem)}; correct it, or remove it if images "
            "are prepared as for OpenAI's CLIP"
        ) from problem
    tower = _read_weights(vision, config)
    return VisionTower(tower=tower, recipe=replace(images, tower=name, tower_sha256=_digest(tower)))


def _read_json(vision: str, name: str, *, required: bool = True) -> Any:
    path = cached_file(
        vision, name, local_files_only=is_here_only(vision), _raise_exceptions_for_missing_entries=required
    )
    if path is None or not Path(path).is_file():
        if required:
            raise FileNotFoundError(f"it has no {name}")
        return None
    return json.loads(read_bytes(Path(path), limit=LARGEST_CONFIGURATION, error=CheckpointError))


def _vision_config(content: Any) -> CLIPVisionConfig:
    """The tower's configuration; only values that affect what it computes are taken, as for the text tower."""
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind not in ("clip", "clip_vision_model"):
        raise ValueError("config.json does not describe a CLIP")
    part = content if kind == "clip_vision_model" else content.get("vision_config")
    if not isinstance(part, dict):
        raise ValueError("config.json has no vision_config")
    if kind == "clip" and "projection_dim" in content:
        part = {"projection_dim": content["projection_dim"], **part}
    kept = {key: part[key] for key in (*_SIZES, "hidden_act", "layer_norm_eps") if key in part}
    for key, value in kept.items():
        if key in _SIZES and not (type(value) is int and 1 <= value <= _SIZES[key]):
            raise ValueError(f"{key} is {str(value)[:40]}, expected 1 to {_SIZES[key]}")
    epsilon = kept.get("layer_norm_eps", 1e-5)
    if type(epsilon) is not float or not 0 < epsilon < 1:
        raise ValueError(f"layer_norm_eps is {str(epsilon)[:40]}, expected a number from 0 to 1")
    if kept.get("hidden_act", ACTIVATIONS[0]) not in ACTIVATIONS:
        raise ValueError(f"hidden_act is {str(kept['hidden_act'])[:40]}, expected {' or '.join(ACTIVATIONS)}")
    if part.get("num_channels", 3) != 3:
        raise ValueError(f"num_channels is {str(part['num_channels'])[:40]}, expected 3")
    config = CLIPVisionConfig(**kept)
    sizes = ImageSizes.of(config)
    if sizes.patch > sizes.image:
        raise ValueError(f"patches of {sizes.patch} pixels are larger than images of {sizes.image}")
    with torch.device("meta"):
        size = sum(4 * weight.numel() for weight in CLIPVisionModelWithProjection(config).parameters())
    if size > LARGEST_TOWER:
        raise ValueError(f"the tower has {size:,} bytes of weights, expected at most {LARGEST_TOWER:,}")
    return config


def _image_recipe(content: Any, image_size: int) -> FeatureRecipe:
    """How images are prepared, from ``preprocessor_config.json``.

    Raises:
        ValueError: images are prepared in a way that a recipe cannot say.
    """
    if not isinstance(content, dict):
        raise ValueError("expected an object")
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if content.get(step, True) is not True:
            raise ValueError(f"{step} is {str(content[step])[:40]}, expected true")
    if abs(content.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-6:
        raise ValueError(f"rescale_factor is {str(content['rescale_factor'])[:40]}, expected 1/255")
    crop = content.get("do_center_crop", True)
    resized, kept = _side(content.get("size", image_size)), _side(content.get("crop_size", image_size))
    squash = not isinstance(content.get("size", 0), int) and "shortest_edge" not in content["size"]
    if resized != image_size or (crop and kept != image_size):
        raise ValueError(
            f"images are resized to {resized} and cropped to {kept if crop else 'nothing'}, expected {image_size}, the "
            "tower's image_size, for both"
        )
    if not squash and not crop:
        raise ValueError("images are neither squashed to a square nor cropped to one")
    resample = content.get("resample", 3)
    if resample not in _INTERPOLATIONS:
        raise ValueError(f"resample is {str(resample)[:40]}, expected 2 (bilinear) or 3 (bicubic)")
    return FeatureRecipe(
        image_size=image_size,
        interpolation=_INTERPOLATIONS[resample],
        resize="squash" if squash else "crop",
        mean=tuple(map(float, content.get("image_mean", CLIP_MEAN))),
        deviation=tuple(map(float, content.get("image_std", CLIP_DEVIATION))),
        channel_order="rgb",
    )


def _side(size: Any) -> Any:
    """The side of a square in any of the ways that Hugging Face writes it."""
    if not isinstance(size, Mapping):
        return size
    if "shortest_edge" in size:
        return size["shortest_edge"]
    if size.get("height") != size.get("width"):
        raise ValueError(f"size is {str(dict(size))[:60]}, expected a square")
    return size.get("height")


def _read_weights(vision: str, config: CLIPVisionConfig) -> CLIPVisionModelWithProjection:
    show_only_downloads()
    tower = read_pretrained(CLIPVisionModelWithProjection, vision, config, option="--vision")
    tower.eval()
    return tower  # type: ignore[no-any-return]


def _digest(tower: CLIPVisionModelWithProjection) -> str:
    """A hash of the weights, whatever files they came in."""
    digest = hashlib.sha256()
    for name, weights in sorted(tower.named_parameters()):
        digest.update(f"{name} {tuple(weights.shape)}\n".encode())
        digest.update(weights.detach().numpy().tobytes())
    return digest.hexdigest()


def _shortened(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200] or type(problem).__name__
