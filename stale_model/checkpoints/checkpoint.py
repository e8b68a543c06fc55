"""Reading checkpoints, our own and those of the original code. Nothing in them is ever executed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stale_model.checkpoints.clip import MOST_LAYERS, ClipParts, TextTower, empty_tower, read_clip_parts
from stale_model.checkpoints.loading import Loaded, as_weights, load_plain, memory_errors, quote
from stale_model.checkpoints.own_checkpoint import NO_FEATURES, TrainedFeatures, unpack_checkpoint, unpack_features
from stale_model.checkpoints.tensor_pickle import SkippedObject
from stale_model.checkpoints.upstream_names import TEXT_TOWER, UNUSED, our_name
from stale_model.network.config import StaleConfig
from stale_model.network.stale import Stale
from stale_runtime.bundle.manifest import LARGEST_AXIS
from stale_runtime.errors import CheckpointError

_WEIGHTS_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
"""Under one of these keys a file has its weights, unless they are all that it has."""
_REMEDY = "torch.save({'state_dict': model.state_dict()}, 'weights.pth')"
_KERNELS = {"mask_localizer.kernel": (2,), "foreground.input.weight": (2, 3)}
"""Convolutions of width 1, which are matrices here, and the axes that disappear."""


@dataclass(frozen=True, kw_only=True)
class TrainedStale:
    """A trained network with everything that is needed to use it."""

    network: Stale
    """In evaluation mode."""
    tower: TextTower
    """Trained along with the network; in evaluation mode."""
    clip: ClipParts
    classes: tuple[str, ...] | None
    """Class names that it was trained on; None for the original's checkpoints, which do not list them."""
    format: str
    """``original`` or ``stale-edge``."""
    sha256: str
    """Hash of the checkpoint file."""
    size: int
    """Size of the checkpoint file in bytes."""
    features: TrainedFeatures = NO_FEATURES
    """What is known about the features that it was trained on."""


def read_checkpoint(path: str | os.PathLike[str], clip: str) -> TrainedStale:
    """Read a checkpoint, our own or one of the original code.

    Args:
        path: a ``.pth`` file.
        clip: as for ``read_original_checkpoint``; not used for our own checkpoints.

    Raises:
        CheckpointError: it is neither, or is damaged.
        OutOfMemoryError: there is not enough memory for it.
    """
    path = Path(path)
    loaded = load_plain(path)
    if not isinstance(loaded.content, dict) or "format_version" not in loaded.content:
        return _from_original(loaded, path, clip)
    model, parts, classes = unpack_checkpoint(loaded.content, path)
    return TrainedStale(
        network=model.network,
        tower=model.tower,
        clip=parts,
        classes=classes,
        format="stale-edge",
        sha256=loaded.sha256,
        size=loaded.size,
        features=unpack_features(loaded.content, model.network.config.channels, path),
    )


def read_original_checkpoint(path: str | os.PathLike[str], clip: str) -> TrainedStale:
    """Read a checkpoint that the original code wrote.

    Args:
        path: a ``.pth`` file of ``{"epoch", "state_dict"}``, or of the weights alone, in PyTorch's present format or
            in that before 1.6. A prefix that all weights share, such as ``module.``, is removed. Modules that the
            original saves but never uses may be there, and objects of any kind beside the weights; they are skipped.
        clip: a Hugging Face id or a folder, for the text tower's configuration and the tokenizer; its weights are in
            the checkpoint.

    Raises:
        CheckpointError: the file is not such a checkpoint, or does not fit the CLIP configuration.
        OutOfMemoryError: there is not enough memory for it.
    """
    path = Path(path)
    return _from_original(load_plain(path), path, clip)


def _from_original(loaded: Loaded, path: Path, clip: str) -> TrainedStale:
    tower_state, network_state, theirs = _our_names(_state_dict(loaded.content, path), path)
    config = _network_config(network_state, path)
    for name, axes in _KERNELS.items():
        if name in network_state and network_state[name].ndim == 2 + len(axes):
            network_state[name] = network_state[name].squeeze(axes)
    with torch.device("meta"):
        network = Stale(config)
    _compare(network, network_state, theirs, path)
    parts = read_clip_parts(clip)
    _compare_tower(parts, tower_state, theirs, path)
    if parts.text_config.projection_dim != config.channels:
        raise CheckpointError(
            f"{path}: the text tower's embeddings are {parts.text_config.projection_dim} wide, the network's "
            f"features {config.channels}; expected the same width"
        )
    with memory_errors(path):
        network.load_state_dict(_weights(network_state, theirs, path), assign=True)
        tower = TextTower(parts.text_config)
        tower.load_state_dict(_weights(tower_state, theirs, path))
    return TrainedStale(
        network=network.eval(),
        tower=tower.eval(),
        clip=parts,
        classes=None,
        format="original",
        sha256=loaded.sha256,
        size=loaded.size,
    )


def _our_names(state: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str]]:
    """The tensors of text tower and network under our names, and the original's name for each of ours."""
    tower_state: dict[str, Tensor] = {}
    network_state: dict[str, Tensor] = {}
    theirs: dict[str, str] = {}
    unknown = []
    for name, tensor in state.items():
        if UNUSED.fullmatch(name):
            continue
        in_tower = TEXT_TOWER.fullmatch(name)
        ours = f"clip.{in_tower[1]}" if in_tower else our_name(name)
        if ours is None:
            unknown.append(name)
            continue
        theirs[ours] = name
        (tower_state if in_tower else network_state)[ours] = tensor
    if unknown:
        listed = ", ".join(map(quote, sorted(unknown)[:5])) + (" …" if len(unknown) > 5 else "")
        raise CheckpointError(f"{path}: unknown tensors {listed}; expected a checkpoint of the original STALE")
    return tower_state, network_state, theirs


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The weights by name, without the prefix that wrappers of the network (``module.``) gave to all of them."""
    state = _find_weights(content) if isinstance(content, Mapping) else content
    if isinstance(state, SkippedObject):
        raise CheckpointError(
            f"{path}: contains {quote(state.name)}, an object with code, which is never loaded; save its weights "
            f"alone: {_REMEDY}"
        )
    if not isinstance(state, Mapping):
        got = (
            f"keys {', '.join(map(quote, list(content)[:6]))}" if isinstance(content, dict) else type(content).__name__
        )
        raise CheckpointError(
            f"{path}: {got}, expected a checkpoint of the original STALE with a 'state_dict'; save its weights with "
            f"{_REMEDY}"
        )
    for name, tensor in state.items():
        if isinstance(tensor, SkippedObject):
            raise CheckpointError(
                f"{path}: the weight {quote(name)} cannot be read: it asks for {quote(tensor.name)}, expected a plain "
                "tensor of floating-point numbers; save it as one with torch.save"
            )
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(
                f"{path}: {quote(name)} in 'state_dict' is not a tensor but {type(tensor).__name__}; save the weights "
                f"with {_REMEDY}"
            )
    prefix = _shared_prefix(min(state), max(state))
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _find_weights(content: Mapping[Any, Any]) -> Any:
    """The weights in a file, or what is in their place; None if there is nothing like that.

    Tensors beside the weights, such as the epoch or the state of a random generator, do not matter, nor does a name or
    a configuration under one of the usual keys.
    """
    under = [content[key] for key in _WEIGHTS_KEYS if key in content]
    inside = [value[key] for value in under if isinstance(value, Mapping) for key in _WEIGHTS_KEYS if key in value]
    for value in under + inside:
        if _has_tensors(value):
            return value
    if _has_tensors(content) and not any(isinstance(value, Mapping) for value in content.values()):
        return content
    return next((value for value in under if isinstance(value, SkippedObject | Mapping) and value), None)


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def _shared_prefix(first: str, last: str) -> str:
    """What the first and the last of sorted names both begin with, up to a dot; so do all names between them."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return first[: first.rfind(".", 0, same) + 1]


def _network_config(state: Mapping[str, Tensor], path: Path) -> StaleConfig:
    """The network's sizes, from the shapes of its tensors."""
    try:
        C = state["snippet_embedding.norm.weight"].shape[0]
        T, M = state["mask_localizer.kernel"].shape[:2]
        layers = len({name.split(".")[2] for name in state if name.startswith("foreground.encoder.")})
        if layers > MOST_LAYERS:
            raise ValueError(f"{layers} layers, expected at most {MOST_LAYERS}")
        if max(C, T, M) > LARGEST_AXIS:
            raise ValueError(f"{max(C, T, M)} wide, expected at most {LARGEST_AXIS}")
        return StaleConfig(
            channels=C,
            temporal_scale=T,
            heads=state["snippet_embedding.query.weight"].shape[0] // C,
            mask_channels=M,
            foreground_layers=layers,
            foreground_feedforward=state["foreground.encoder.0.feedforward.inner.weight"].shape[0],
        )
    except KeyError as problem:
        raise CheckpointError(f"{path}: no tensor for {problem.args[0]}; expected a checkpoint of STALE") from problem
    except (ValueError, IndexError, ZeroDivisionError) as problem:
        raise CheckpointError(f"{path}: the tensors' shapes fit no STALE network ({problem})") from problem


def _compare_tower(parts: ClipParts, state: Mapping[str, Tensor], theirs: Mapping[str, str], path: Path) -> None:
    layers = len({name.split(".")[4] for name in state if name.startswith("clip.text_model.encoder.layers.")})
    if parts.text_config.num_hidden_layers != layers:
        raise CheckpointError(
            f"{path}: its text tower has {layers} layers, --clip {parts.name} describes "
            f"{parts.text_config.num_hidden_layers}; give the CLIP that it was trained with"
        )
    _compare(empty_tower(parts.text_config), state, theirs, path)


def _weights(state: Mapping[str, Tensor], theirs: Mapping[str, str], path: Path) -> dict[str, Tensor]:
    return {name: as_weights(tensor, theirs[name], path) for name, tensor in state.items()}


def _compare(module: nn.Module, state: Mapping[str, Tensor], theirs: Mapping[str, str], path: Path) -> None:
    """Make sure that a checkpoint has exactly the tensors of a module, each in its shape."""
    expected = module.state_dict()
    for name in sorted(expected.keys() - state.keys()):
        raise CheckpointError(f"{path}: the tensor for {name} is missing; the file is incomplete")
    for name, tensor in state.items():
        if name not in expected:
            raise CheckpointError(f"{path}: tensor {quote(theirs[name])} does not belong to the network")
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            raise CheckpointError(f"{path}: tensor {quote(theirs[name])} has shape {shapes}")
