"""Our own checkpoints, which contain everything that an export needs, as tensors and plain values only."""

import io
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import CLIPTextConfig

from stale_model.checkpoints.clip import MOST_LAYERS, ClipParts, TextTower, text_config
from stale_model.checkpoints.loading import as_weights, first_line, memory_errors, quote
from stale_model.network.config import StaleConfig
from stale_model.network.stale import Stale
from stale_runtime.bundle.manifest import LARGEST_AXIS
from stale_runtime.errors import CheckpointError
from stale_runtime.inputs.feature_statistics import FeatureStatistics
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE, FeatureRecipe

FORMAT_VERSION = 1
RECIPE, STATISTICS = "recipe", "feature_statistics"
"""Parts that checkpoints had not always."""
_KINDS = {
    "format_version": int,
    "config": dict,
    "state_dict": dict,
    "text_config": dict,
    "clip": str,
    "tokenizer_json": str,
    "classes": list,
    "training": dict,
}


class StaleWithText(nn.Module):
    """Network and text tower as one module, as they are trained and saved."""

    def __init__(self, network: Stale, tower: TextTower) -> None:
        super().__init__()
        self.network = network
        self.tower = tower


class TrainedFeatures(NamedTuple):
    """What a checkpoint knows about the features that it was trained on."""

    recipe: FeatureRecipe = UNKNOWN_RECIPE
    """How they were made."""
    statistics: FeatureStatistics | None = None
    """What they look like; None if that was not recorded."""


NO_FEATURES = TrainedFeatures()
"""Of checkpoints of the original code, and of ours from before recipes."""


def pack_checkpoint(
    model: StaleWithText,
    clip: ClipParts,
    classes: tuple[str, ...],
    training: Mapping[str, Any],
    features: TrainedFeatures = NO_FEATURES,
) -> dict[str, Any]:
    """The content of a checkpoint.

    Args:
        model: network and text tower.
        clip: the tower's configuration and tokenizer.
        classes: class names that it was trained on, in the order of the network's rows.
        training: how it was trained; plain values only.
        features: what is known about the features that it was trained on.
    """
    statistics = features.statistics
    return {
        "format_version": FORMAT_VERSION,
        "config": asdict(model.network.config),
        "state_dict": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
        "text_config": _plain(clip.text_config.to_dict()),
        "clip": clip.name,
        "tokenizer_json": clip.tokenizer_json.decode(),
        "classes": list(classes),
        "training": dict(training),
        RECIPE: features.recipe.to_json(),
        STATISTICS: None if statistics is None else statistics.to_json(),
    }


def unpack_checkpoint(content: Mapping[str, Any], path: Path) -> tuple[StaleWithText, ClipParts, tuple[str, ...]]:
    """Network, CLIP parts and classes of a checkpoint's content.

    Args:
        content: content of the file.
        path: path of the file, for messages.

    Raises:
        CheckpointError: it has another version, is incomplete, or its parts do not fit each other.
        OutOfMemoryError: there is not enough memory for it.
    """
    refuse_other_kinds(content, path)
    try:
        config = _network_config(content["config"])
        tower_config = text_config(content["text_config"])
        classes = _texts(content["classes"])
        name, tokenizer_json = _texts([content["clip"], content["tokenizer_json"]])
    except Exception as problem:  # transformers and PyTorch raise many kinds
        raise CheckpointError(f"{path}: its configuration is not usable ({first_line(problem)})") from problem
    state = content["state_dict"]
    refuse_misfits(config, tower_config, state, path)
    with memory_errors(path):
        model = StaleWithText(Stale(config), TextTower(tower_config))
        model.load_state_dict(dict(state))  # without the attributes that a file may give it
    clip = ClipParts(name=name, text_config=tower_config, tokenizer_json=tokenizer_json.encode())
    return model.eval(), clip, classes


def unpack_features(content: Mapping[str, Any], channels: int, path: Path) -> TrainedFeatures:
    """What a checkpoint's content says about the features that it was trained on; older ones say nothing.

    Args:
        content: content of the file.
        channels: C, the width of the features.
        path: path of the file, for messages.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        recipe = FeatureRecipe.from_json(content.get(RECIPE, {}))
        found = content.get(STATISTICS)
        statistics = None if found is None else FeatureStatistics.from_json(found)
        if statistics is not None and len(statistics.direction) != channels:
            raise ValueError(f"statistics of features {len(statistics.direction)} wide, expected {channels}")
    except Exception as problem:  # a comparison with a tensor raises, too
        raise CheckpointError(
            f"{path}: what it says about its features is not usable ({first_line(problem)}); copy it again, or train "
            "it again"
        ) from problem
    return TrainedFeatures(recipe, statistics)


def checkpoint_bytes(content: Mapping[str, Any]) -> bytes:
    """A checkpoint's content as ``torch.save`` writes it."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def refuse_other_kinds(content: Mapping[str, Any], path: Path) -> None:
    """Make sure that a checkpoint has all its parts, each of its type.

    Raises:
        CheckpointError: a part is missing or has another type, or this version of the format cannot be read.
    """
    version = content.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version {quote(version)[:20]}, this version of stale-edge reads {FORMAT_VERSION}; "
            "update stale-edge"
        )
    for key, kind in _KINDS.items():
        if not isinstance(content.get(key), kind):
            raise CheckpointError(f"{path}: no {key!r} of type {kind.__name__}, expected a checkpoint of stale-train")


def refuse_misfits(config: StaleConfig, text_config: CLIPTextConfig, state: Mapping[str, Any], path: Path) -> None:
    """Compare tensors with a configuration, before memory is taken for the network that it describes.

    Raises:
        CheckpointError: a tensor is missing, unknown, has another shape, or contains NaN or infinity.
        OutOfMemoryError: there is not enough memory for it.
    """
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise CheckpointError(f"{path}: {quote(name)} in 'state_dict' is not a tensor")
    layers = len({name.split(".")[5] for name in state if name.startswith("tower.clip.text_model.encoder.layers.")})
    if layers != text_config.num_hidden_layers or config.foreground_layers > min(len(state), MOST_LAYERS):
        raise CheckpointError(f"{path}: its tensors and its configuration disagree about the number of layers")
    with torch.device("meta"):
        expected = StaleWithText(Stale(config), TextTower(text_config)).state_dict()
    for name in sorted(expected.keys() ^ state.keys()):
        raise CheckpointError(f"{path}: {'lacks tensor' if name in expected else 'has unknown tensor'} {quote(name)}")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            raise CheckpointError(f"{path}: tensor {name} is {shapes}")
    for name, tensor in state.items():
        as_weights(tensor, name, path)


def _network_config(content: Mapping[str, Any]) -> StaleConfig:
    for name, value in content.items():
        if type(value) not in (int, float) or not 0 <= value <= LARGEST_AXIS:
            raise ValueError(f"{reprlib.repr(name)} is {reprlib.repr(value)}, expected 0 to {LARGEST_AXIS}")
    return StaleConfig(**content)


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    """The values, if all of them are valid text."""
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"{reprlib.repr(value)}, expected text")
        value.encode()
    return tuple(values)


def _plain(value: Any) -> Any:
    """The value as dictionaries, lists, numbers and text only, so that reading it needs no other classes."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
