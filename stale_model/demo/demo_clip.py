"""The demo's CLIP: a small text tower with seeded weights, and a tokenizer that knows the demo's words."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModelWithProjection

from stale_runtime.inference.text_encoder import PROMPT_TEMPLATE
from stale_runtime.inputs.features import CLIP_NORM
from stale_runtime.segments import FloatArray

CHANNELS = 512
"""Width of the embeddings, that of CLIP ViT-B."""
START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT, HIDDEN, LAYERS, HEADS = 77, 64, 2, 2
MEAN_REMOVED = 0.8
"""Part of the mean prompt embedding that is subtracted from each, in [0, 1]."""
GAINS = {"q_proj": 0.5, "k_proj": 0.5, "v_proj": 2.0, "out_proj": 2.0}
"""Factors on the initial weights: attention spreads evenly over the words of a prompt, and passes on much of them."""
_WORD = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, kw_only=True)
class DemoClip:
    """A CLIP text tower with its tokenizer."""

    tower: CLIPTextModelWithProjection
    tokenizer: Tokenizer
    text_config: CLIPTextConfig

    def embed(self, names: Sequence[str]) -> FloatArray:
        """Embed the prompts of K class names: (K, CHANNELS) of float64, so that all machines round alike."""
        projection = self.tower.text_projection.weight.detach().double().numpy()  # (CHANNELS, HIDDEN)
        return np.asarray(self.states(names) @ projection.T)

    def states(self, names: Sequence[str]) -> FloatArray:
        """The projection's inputs, the last layer's state at each prompt's end token: (K, HIDDEN) of float64."""
        rows = [self.tokenizer.encode(PROMPT_TEMPLATE.format(name)).ids for name in names]
        tower = copy.deepcopy(self.tower).double()
        with torch.inference_mode():
            states = [tower(input_ids=torch.tensor([row])).last_hidden_state[0, -1].numpy() for row in rows]
        return np.stack(states)

    def files(self) -> dict[str, bytes]:
        """The content of the CLIP folder by file name, as on Hugging Face."""
        config = CLIPConfig(
            text_config=self.text_config.to_dict(),
            projection_dim=CHANNELS,
            architectures=["CLIPTextModelWithProjection"],
            dtype="float32",
        )
        return {
            "config.json": config.to_json_string(use_diff=False).encode(),
            "tokenizer.json": self.tokenizer.to_str(pretty=True).encode(),
            "model.safetensors": save(self.tower.state_dict(), metadata={"format": "pt"}),
        }


def make_clip(names: Sequence[str], seed: int) -> DemoClip:
    """Make a CLIP text tower whose tokenizer knows the words of some class names.

    Args:
        names: class names.
        seed: seed of the weights.
    """
    words = sorted({word for name in names for word in re.findall(r"\w+", PROMPT_TEMPLATE.format(name).lower())})
    tokenizer = _make_tokenizer(words)
    text_config = _make_text_config(tokenizer)
    tower = CLIPTextModelWithProjection(text_config)
    rng = np.random.default_rng([seed, 0])
    drawn = {name: _draw(name, tuple(value.shape), rng) for name, value in tower.named_parameters()}
    tower.load_state_dict({name: torch.from_numpy(value) for name, value in drawn.items()}, strict=False)
    clip = DemoClip(tower=tower, tokenizer=tokenizer, text_config=text_config)
    _spread_embeddings(clip, names)
    return clip


def _spread_embeddings(clip: DemoClip, names: Sequence[str]) -> None:
    """Subtract most of the mean from the embeddings, and make them as long as CLIP's.

    A tower with random weights gives all prompts nearly the same embedding; training would have spread them out.
    """
    states = clip.states(names)  # (K, HIDDEN)
    bias = -MEAN_REMOVED * states.mean(axis=0)
    scale = CLIP_NORM / np.linalg.norm(states + bias, axis=1).mean()
    with torch.no_grad():
        clip.tower.text_model.final_layer_norm.bias.copy_(torch.from_numpy(bias))
        clip.tower.text_projection.weight.mul_(float(scale))


def _make_tokenizer(words: Sequence[str]) -> Tokenizer:
    """A tokenizer that splits text as CLIP's does; known words are one token each, all others one token a byte."""
    byte_tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*byte_tokens, *(f"{byte}</w>" for byte in byte_tokens)]
    tokens += [word for word in words if len(word) > 1]
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=END, end_of_word_suffix="</w>", ignore_merges=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([START, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _make_text_config(tokenizer: Tokenizer) -> CLIPTextConfig:
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    return CLIPTextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=CONTEXT,
        projection_dim=CHANNELS,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )


def _draw(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Initial weights of a parameter: words count more than positions, and the projection keeps angles."""
    if "norm" in name or name.endswith("bias"):
        return np.full(shape, float("norm" in name and name.endswith("weight")), dtype=np.float32)
    drawn = rng.standard_normal(shape)
    if name == "text_projection.weight":
        drawn = np.linalg.qr(drawn)[0]
    elif "position_embedding" in name:
        drawn *= 0.1
    elif "token_embedding" in name:
        drawn[-1] *= 0.1  # the end token, whose state is every prompt's embedding
    else:
        drawn *= GAINS.get(name.split(".")[-2], 1.0) * shape[1] ** -0.5
    return drawn.astype(np.float32)
