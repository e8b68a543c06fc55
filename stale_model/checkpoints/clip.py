"""CLIP's text tower, which turns prompts into embeddings in the space of the snippet features."""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PretrainedConfig
from transformers.utils.hub import cached_file

from stale_model.checkpoints.hub import is_here_only, refuse_out_of_reach
from stale_runtime.bundle.manifest import TextEncoderSpec
from stale_runtime.errors import CheckpointError
from stale_runtime.inference.text_encoder import PROMPT_TEMPLATE, load_tokenizer, tokenizer_errors
from stale_runtime.system.files import MEGABYTE, read_bytes

END_TOKEN = "<|endoftext|>"
LARGEST_FILE = 64 * MEGABYTE
"""Bytes of the configuration or the tokenizer; CLIP's tokenizer has 2 to 4 MB."""
MOST_LAYERS = 64
"""CLIP's largest text tower has 24."""
_LARGEST_SIZE = 2**20
_SIZES: tuple[str, ...] = ("vocab_size", "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers")
_SIZES += ("num_attention_heads", "max_position_embeddings")
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_OTHERS = ("hidden_act", "layer_norm_eps", "attention_dropout")


class TextTower(nn.Module):
    """The text half of CLIP, as ``transformers`` implements it."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.clip = CLIPTextModelWithProjection(config)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Embed tokenised prompts.

        Args:
            token_ids: (K, L) of int64, each from start to end token, padded with the end token.

        Returns:
            (K, C), not normalised.
        """
        embeddings: Tensor = self.clip(input_ids=token_ids).text_embeds
        return embeddings


@dataclass(frozen=True, kw_only=True)
class ClipParts:
    """The contents of a CLIP folder other than its weights."""

    name: str
    """The Hugging Face id, or the folder's name."""
    text_config: CLIPTextConfig
    tokenizer_json: bytes
    """The content of ``tokenizer.json``."""


def read_clip_parts(clip: str) -> ClipParts:
    """Read the text tower's configuration and the tokenizer.

    Args:
        clip: a Hugging Face id, or a folder with ``config.json`` and ``tokenizer.json``.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    folder = Path(clip)
    try:
        config = _text_config(_read_file(clip, "config.json"))
        tokenizer_json = _read_file(clip, "tokenizer.json")
    except Exception as problem:  # transformers raises many kinds, for missing files and for wrong ones
        refuse_out_of_reach(clip, problem, option="--clip", files="config.json, tokenizer.json and model.safetensors")
        first = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise CheckpointError(
            f"--clip {clip}: no CLIP configuration and tokenizer ({first}); give a Hugging Face id that can be "
            "reached from here, or a folder with config.json and tokenizer.json"
        ) from problem
    return ClipParts(
        name=folder.resolve().name if folder.is_dir() else clip, text_config=config, tokenizer_json=tokenizer_json
    )


def _read_file(clip: str, name: str) -> bytes:
    path = cached_file(clip, name, local_files_only=is_here_only(clip))
    if path is None or not Path(path).is_file():
        raise FileNotFoundError(f"it has no {name}")
    return read_bytes(Path(path), limit=LARGEST_FILE, error=CheckpointError)


def _text_config(config_json: bytes) -> CLIPTextConfig:
    content = json.loads(config_json)
    if not isinstance(content, dict) or content.get("model_type") != "clip":
        raise ValueError("config.json does not describe a CLIP")
    if not isinstance(content.get("text_config"), dict):
        raise ValueError("config.json has no text_config")
    return text_config(content["text_config"])


def text_config(content: Mapping[str, Any]) -> CLIPTextConfig:
    """A text tower's configuration from the content of a file.

    Only values that affect what the tower computes are used: others could make transformers do more, such as download
    the attention implementation that they name. Initial random weights are drawn as ``transformers`` does by
    default.

    Raises:
        Exception: no tower can be built from it; transformers and PyTorch raise many kinds.
    """
    kept = {key: content[key] for key in (*_SIZES, *_TOKENS, *_OTHERS) if key in content}
    for key in ("bos_token_id", "pad_token_id"):  # may be null: the tower reads the end token only
        if kept.get(key, 0) is None:
            del kept[key]
    _check_values(kept)
    config = CLIPTextConfig(**kept)
    if config.num_hidden_layers > MOST_LAYERS:
        raise ValueError(f"{config.num_hidden_layers} layers, expected 1 to {MOST_LAYERS}")
    if config.eos_token_id not in range(config.vocab_size):  # the default of transformers, if the file has none
        raise ValueError(f"no eos_token_id, expected one of {config.vocab_size} tokens")
    empty_tower(config)  # raises if no tower can be built from it
    return config


def _check_values(content: Mapping[str, Any]) -> None:
    """Make sure that values have the types and ranges that transformers expects without checking."""
    tokens = content.get("vocab_size", CLIPTextConfig().vocab_size)
    for key, value in content.items():
        if key == "hidden_act":
            fits, expected = isinstance(value, str), "a name"
        elif key in _SIZES:
            fits, expected = type(value) is int and 1 <= value <= _LARGEST_SIZE, f"1 to {_LARGEST_SIZE}"
        elif key in _TOKENS:
            fits, expected = type(value) is int and 0 <= value < tokens, f"one of {tokens} tokens"
        else:
            fits, expected = type(value) in (int, float) and 0 <= value < 1, "0 to 1"
        if not fits:
            raise ValueError(f"{key} is {reprlib.repr(value)}, expected {expected}")


def empty_tower(config: CLIPTextConfig) -> TextTower:
    """A tower whose parameters have shapes but no memory, to compare a checkpoint with."""
    with torch.device("meta"):
        return TextTower(config)


def text_encoder_spec(clip: ClipParts) -> TextEncoderSpec:
    """The settings with which the runtime turns class names into this tower's token ids.

    Raises:
        CheckpointError: the tokenizer is not CLIP's.
    """
    try:
        tokenizer = load_tokenizer(clip.tokenizer_json)
        with tokenizer_errors():
            end = tokenizer.token_to_id(END_TOKEN)
            *prefix, _ = tokenizer.encode(PROMPT_TEMPLATE.partition("{}")[0].rstrip()).ids
    except ValueError as problem:
        raise CheckpointError(f"--clip {clip.name}: tokenizer.json is not like CLIP's ({problem})") from problem
    if end is None or end >= clip.text_config.vocab_size:
        raise CheckpointError(f"--clip {clip.name}: tokenizer.json has no {END_TOKEN}; expected CLIP's tokenizer")
    try:
        return TextEncoderSpec(
            clip=clip.name,
            context_length=clip.text_config.max_position_embeddings,
            pad_token=end,
            prefix=tuple(prefix),
            prompt_template=PROMPT_TEMPLATE,
        )
    except ValueError as problem:
        raise CheckpointError(f"--clip {clip.name}: {problem}; expected CLIP's tokenizer") from problem


def read_pretrained(kind: Any, source: str, config: PretrainedConfig, *, option: str) -> Any:
    """Read one of transformers' models with its weights in safetensors. Nothing is unpickled.

    Args:
        kind: the model's class.
        source: a Hugging Face id, or a folder.
        config: of the model; the one that transformers finds is not used.
        option: what named the source, for messages.

    Returns:
        The model, in float32.

    Raises:
        CheckpointError: weights cannot be read, are missing, or contain NaN or infinity.
    """
    try:
        model, found = kind.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=is_here_only(source),
            output_loading_info=True,
        )
    except Exception as problem:  # transformers raises many kinds
        refuse_out_of_reach(source, problem, option=option, files="config.json and model.safetensors")
        first = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise CheckpointError(
            f"{option} {source}: its weights cannot be read ({first}); expected model.safetensors"
        ) from problem
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(f"{option} {source}: its weights lack {missing[0]}; use the files of a complete CLIP")
    for name, weights in model.state_dict().items():
        if weights.is_floating_point() and not weights.isfinite().all():
            raise CheckpointError(f"{option} {source}: {name} contains NaN or infinity; download its files again")
    return model


def read_tower(clip: str, config: CLIPTextConfig) -> TextTower | None:
    """The text tower with CLIP's own weights; None if the folder contains no weights.

    Args:
        clip: as for ``read_clip_parts``.
        config: as ``read_clip_parts`` returned it; the one that transformers finds is not used.

    Raises:
        CheckpointError: there are weights, but they cannot be used.
    """
    if Path(clip).is_dir() and not any(Path(clip).glob("*.safetensors")):
        return None
    pretrained = read_pretrained(CLIPTextModelWithProjection, clip, config, option="--clip")
    tower = TextTower(config)
    tower.clip = pretrained
    return tower
