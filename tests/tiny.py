"""A STALE network small enough for tests: seeded weights, a CLIP folder, checkpoints and a bundle."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPVisionConfig, CLIPVisionModelWithProjection

from stale_export import export_bundle
from stale_model import Stale, StaleConfig, TextTower, read_original_checkpoint
from stale_model.checkpoints.upstream_names import our_name
from stale_runtime import Prompts
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE, FeatureRecipe

CHANNELS = 16
LENGTH = 16
CLASSES = ("long jump", "archery", "polo")
CONFIG = StaleConfig(
    channels=CHANNELS, temporal_scale=LENGTH, heads=2, mask_channels=8, foreground_layers=1, foreground_feedforward=1
)
START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT = 77
IMAGE_SIZE = 32


def write_clip_folder(folder: Path, channels: int = CHANNELS) -> Path:
    """A folder with the configuration and the tokenizer of a tiny CLIP: its tokens are letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = {token: n for n, token in enumerate([*letters, *(f"{c}</w>" for c in letters), "?", START, END])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="?", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
    )
    tokenizer.decoder = decoders.BPEDecoder()
    tokenizer.add_special_tokens([START, END])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = {
        "vocab_size": len(vocabulary),
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": CONTEXT,
        "projection_dim": channels,
        "bos_token_id": vocabulary[START],
        "eos_token_id": vocabulary[END],
        "pad_token_id": vocabulary[END],
    }
    config = {"model_type": "clip", "projection_dim": channels, "text_config": text, "vision_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def make_vision_tower(seed: int = 0, **changes: Any) -> CLIPVisionModelWithProjection:
    """CLIP's vision tower with seeded weights, none of which is zero or one, in evaluation mode."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {**sizes, "image_size": IMAGE_SIZE, "patch_size": 8, "projection_dim": CHANNELS, **changes}
    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    tower.train(False)
    randomize(tower, seed)
    with torch.no_grad():
        for name, weight in tower.named_parameters():
            if "norm" in name and name.endswith("weight"):
                weight.add_(1)
    return tower


def write_vision_folder(folder: Path, tower: CLIPVisionModelWithProjection | None = None) -> Path:
    """A folder with the configuration and the weights of a vision tower, as Hugging Face lays it out."""
    (tower or make_vision_tower()).save_pretrained(folder)
    return folder


def make_network(seed: int = 0, config: StaleConfig = CONFIG) -> Stale:
    """A network with seeded weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Stale(config).eval()


def make_tower(clip_folder: Path, seed: int = 0) -> TextTower:
    """The text tower of a CLIP folder with seeded weights, in evaluation mode."""
    config = CLIPTextConfig(**json.loads((clip_folder / "config.json").read_text())["text_config"])
    tower = TextTower(config).eval()
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in tower.parameters():  # transformers initializes differently in each version
            if weight.ndim > 1:
                weight.normal_(std=weight.shape[-1] ** -0.5, generator=dice)
    return tower


def upstream_state(network: Stale, tower: TextTower, *, unused: bool = True) -> dict[str, Tensor]:
    """The parameters under the names and in the shapes of the original code, without ``module.``."""
    state = {theirs: network.state_dict()[our_name(theirs) or ""] for theirs in _upstream_names(network)}
    state["localizer_mask.2.weight"] = state["localizer_mask.2.weight"][:, :, None]
    state["masktrans.input_proj.weight"] = state["masktrans.input_proj.weight"][:, :, None, None]
    state |= {f"txt_model.{name.removeprefix('clip.')}": tensor for name, tensor in tower.state_dict().items()}
    if unused:
        state |= {
            "contexts": torch.zeros(1, 30),
            "proj.0.weight": torch.zeros(2, 2, 3),
            "classifier.0.bias": torch.zeros(5),
            "bn1.num_batches_tracked": torch.tensor(0),
            "reduce_mask.0.weight": torch.zeros(1, 2, 1),
            "mask_MLP.0.bias": torch.full((1,), float("nan")),
            "txt_model.logit_scale": torch.tensor(2.6),
            "txt_model.vision_model.embeddings.class_embedding": torch.zeros(4),
            "txt_model.visual_projection.weight": torch.zeros(2, 2),
        }
    return {name: tensor.clone() for name, tensor in state.items()}


def save_checkpoint(path: Path, state: dict[str, Tensor], *, prefix: str = "module.") -> Path:
    """Write a checkpoint as the original code does."""
    torch.save({"epoch": 3, "state_dict": {prefix + name: tensor for name, tensor in state.items()}}, path)
    return path


def write_bundle(
    output: Path,
    checkpoint: Path,
    clip_folder: Path,
    names: Sequence[str] = CLASSES,
    *,
    vision: Path | None = None,
    recipe: FeatureRecipe = UNKNOWN_RECIPE,
) -> Path:
    """Export a checkpoint of the original's format, in silence."""
    trained = read_original_checkpoint(checkpoint, str(clip_folder))
    trained = replace(trained, features=trained.features._replace(recipe=recipe))
    tower = str(vision) if vision is not None else None
    export_bundle(trained, Prompts.of(names), output, vision=tower, say=lambda _: None)
    return output


def write_training_data(folder: Path) -> Path:
    """Features and annotations of ten training and three validation videos."""
    (folder / "features").mkdir(parents=True)
    generator = np.random.default_rng(0)
    database = {}
    for n in range(13):
        np.save(folder / "features" / f"v_{n}.npy", generator.standard_normal((30, CHANNELS)).astype(np.float32))
        annotations = [{"label": CLASSES[n % len(CLASSES)], "segment": [float(n), n + 20.0]}]
        subset = "training" if n < 10 else "validation"
        database[str(n)] = {"duration": 60.0, "subset": subset, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    return folder


def _upstream_names(network: Stale) -> list[str]:
    """The original's name of each parameter, found by trying all names that the original may have."""
    layers = range(network.config.foreground_layers)
    parts = [f"transformer.{half}.norm" for half in ("encoder", "decoder")] + ["input_proj"]
    parts += [f"mask_embed.layers.{n}" for n in range(3)]
    sublayers = {
        "encoder": ("self_attn", "linear1", "linear2", "norm1", "norm2"),
        "decoder": ("self_attn", "multihead_attn", "linear1", "linear2", "norm1", "norm2", "norm3"),
    }
    for half, sublayer in sublayers.items():
        parts += [f"transformer.{half}.layers.{n}.{name}" for n in layers for name in sublayer]
    names = ["bg_embeddings", "masktrans.query_embed.weight"]
    names += [f"masktrans.{part}.{kind}" for part in parts for kind in ("weight", "bias", "in_proj_weight")]
    names += [
        f"masktrans.{part}.{kind}" for part in parts for kind in ("in_proj_bias", "out_proj.weight", "out_proj.bias")
    ]
    blocks = ("embedding", "cross_att")
    fields = ("w_qs", "w_ks", "w_vs", "fc", "layer_norm")
    names += [f"{block}.{field}.{kind}" for block in blocks for field in fields for kind in ("weight", "bias")]
    names += [f"localizer_mask.{n}.{kind}" for n in (0, 2) for kind in ("weight", "bias")]
    ours = network.state_dict()
    found = [name for name in names if our_name(name) in ours]
    assert {our_name(name) for name in found} == ours.keys()
    return found


def randomize(module: nn.Module, seed: int = 0) -> None:
    """Replace every parameter by random numbers, also those that start at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
