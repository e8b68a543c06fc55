"""The deployed text encoder: CLIP's text tower rewritten for class names, the same function.

Every prompt begins with the same words and CLIP's text tower is causal, so what the layers make of those words is the
same for all prompts: their keys and values are computed once, at export. What is left of a prompt, the class name and
the end token, is encoded in batches of one length, so that nothing is padded, and the last layer is computed for the
end token alone, which is all that the embedding is made of.
"""

import logging
import warnings
from typing import cast

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from stale_export.folding import FoldedAttention
from stale_export.graph_builder import OPSET, tidy
from stale_model import Stale, TextTower
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec
from stale_runtime.errors import ExportError
from stale_runtime.inputs.prompts import MOST_PROMPTS


class DeployedTextEncoder(nn.Module):
    """Class names to embeddings, and to the queries that the localizer's cross-adaptation makes of them."""

    def __init__(self, tower: TextTower, network: Stale, prefix: Tensor) -> None:
        """Take a trained tower apart.

        Args:
            tower: in evaluation mode; its modules are used, not copied.
            network: whose cross-adaptation the queries are for.
            prefix: (P,) token ids that every prompt begins with, the start token included.
        """
        super().__init__()
        text = tower.clip.text_model
        self.tokens = text.embeddings.token_embedding
        self.positions = nn.Buffer(text.embeddings.position_embedding.weight.detach()[len(prefix) :])
        with torch.no_grad():
            x = self.tokens(prefix) + text.embeddings.position_embedding.weight[: len(prefix)]  # (P, W)
            layers = []
            for layer in text.encoder.layers:
                layers.append(_SuffixLayer(cast("CLIPEncoderLayer", layer), x))
                x = layers[-1].prefix_output(x)
        self.layers = nn.ModuleList(layers)
        self.norm = text.final_layer_norm
        self.projection = tower.clip.text_projection
        self.query = nn.Buffer(torch.from_numpy(FoldedAttention.of(network.cross_adaptation).query))

    def forward(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Encode what follows the prefix.

        Args:
            token_ids: (K, L) of int64, each ending with its only end token.

        Returns:
            Embeddings (K, C), not normalised, and queries (K, H*C).
        """
        x = self.tokens(token_ids) + self.positions[: token_ids.shape[1]]  # (K, L, W)
        *first, last = self.layers
        for layer in first:
            x = layer(x, x)
        x = last(x, x[:, -1:])[:, 0]  # (K, W)
        embeddings = self.projection(self.norm(x))
        return embeddings, embeddings @ self.query


class _SuffixLayer(nn.Module):
    """A layer of the tower with the prefix's keys and values inside."""

    def __init__(self, layer: CLIPEncoderLayer, prefix: Tensor) -> None:
        """Args: layer: trained; prefix: (P, W), what the layers before made of the prefix."""
        super().__init__()
        self.layer = layer
        self.heads = layer.self_attn.num_heads
        self.scale = layer.self_attn.scale
        self.keys, self.values = (nn.Buffer(part.detach()) for part in self._keys_and_values(prefix[None]))

    def prefix_output(self, prefix: Tensor) -> Tensor:
        """What this layer makes of the prefix itself: (P, W) -> (P, W)."""
        keys, values = self.keys[:, :, :0], self.values[:, :, :0]
        return self._attend(prefix[None], prefix[None], keys, values)[0]

    def forward(self, x: Tensor, queries: Tensor) -> Tensor:
        """Args: x (K, L, W), what stands at each place; queries: its last rows (K, N, W). Returns: (K, N, W)."""
        keys, values = (part.expand(x.shape[0], -1, -1, -1) for part in (self.keys, self.values))
        output: Tensor = self._attend(x, queries, keys, values)
        return output

    def _attend(self, x: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        own_keys, own_values = self._keys_and_values(x)
        keys, values = torch.cat([keys, own_keys], dim=2), torch.cat([values, own_values], dim=2)
        N, S = queries.shape[1], keys.shape[2]
        q = self._split(self.layer.self_attn.q_proj(self.layer.layer_norm1(queries))) * self.scale  # (K, heads, N, D)
        place = torch.arange(S)
        hidden = place[None] > place[S - N :, None]  # (N, S): what comes later
        weights = (q @ keys.transpose(2, 3)).masked_fill(hidden, float("-inf")).softmax(dim=-1)
        gathered = (weights @ values).transpose(1, 2).flatten(2)
        x = queries + self.layer.self_attn.out_proj(gathered)
        output: Tensor = x + self.layer.mlp(self.layer.layer_norm2(x))
        return output

    def _keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, attention = self.layer.layer_norm1(x), self.layer.self_attn
        return self._split(attention.k_proj(x)), self._split(attention.v_proj(x))

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (K, L, W) -> (K, heads, L, D)
        return heads


def text_encoder_spec(channels: int, heads: int) -> GraphSpec:
    """The interface of the text encoder: the number of prompts, and of tokens after the prefix, is free."""
    return GraphSpec(
        inputs=(TensorSpec(name="token_ids", dtype="int64", shape=("K", "L")),),
        outputs=(
            TensorSpec(name="embeddings", dtype="float32", shape=("K", channels)),
            TensorSpec(name="queries", dtype="float32", shape=("K", heads * channels)),
        ),
    )


def text_encoder_model(encoder: DeployedTextEncoder, spec: GraphSpec) -> onnx.ModelProto:
    """The deployed text encoder as an ONNX graph.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    most_tokens = encoder.positions.shape[0]
    example = torch.zeros(3, min(4, most_tokens), dtype=torch.int64)  # no size may be 1, which would be taken for fixed
    shapes = ({0: Dim("K", min=1, max=MOST_PROMPTS), 1: Dim("L", min=1, max=most_tokens)},)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the exporter's own internals
            program = torch.onnx.export(
                encoder.eval(),
                (example,),
                dynamo=True,
                external_data=False,
                verbose=False,
                opset_version=OPSET,
                input_names=[tensor.name for tensor in spec.inputs],
                output_names=[tensor.name for tensor in spec.outputs],
                dynamic_shapes=shapes,
            )
    except Exception as problem:
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]
        raise ExportError(f"text encoder: PyTorch cannot export it to ONNX ({first})") from problem
    assert program is not None
    return tidy(program.model_proto)
