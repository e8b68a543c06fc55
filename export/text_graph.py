"""The deployed text encoder: CLIP's text tower, rewritten for class names that share one prompt template.

Every prompt begins with the same words, the prefix ("a video of action"), and CLIP's text tower is causal: a token
attends only to tokens before it. So what the layers compute for the prefix is the same for all prompts, and its keys
and values are computed once, at export. The graph gets only the suffix: the tokens of the class name and the end token.
Suffixes of one length are encoded together, so that nothing is padded. The last layer is computed for the end token
alone, because the embedding depends on nothing else.

K: prompts, L: tokens of a suffix, P: tokens of the prefix, W: width of the tower, D: width of a head, C: width of an
embedding, H: heads of the localizer's cross-adaptation.
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
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec
from stale_runtime.errors import ExportError
from stale_runtime.inputs.prompts import MOST_PROMPTS


class DeployedTextEncoder(nn.Module):
    """Computes embeddings of class names, and the queries of the localizer's cross-adaptation."""

    def __init__(self, tower: TextTower, network: Stale, prefix: Tensor) -> None:
        """Compute keys and values of the prefix for every layer.

        Args:
            tower: in evaluation mode; its modules are shared, not copied.
            network: its cross-adaptation gives the weights of the queries.
            prefix: (P,) token ids that every prompt begins with, start token included.
        """
        super().__init__()
        text = tower.clip.text_model
        self.tokens = text.embeddings.token_embedding
        self.positions = nn.Buffer(text.embeddings.position_embedding.weight.detach()[len(prefix) :])  # (L, W)
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
            token_ids: (K, L) of int64; the last token of each row, and no other, is the end token.

        Returns:
            Embeddings (K, C), not normalised, and queries (K, H*C).
        """
        x = self.tokens(token_ids) + self.positions[: token_ids.shape[1]]  # (K, L, W)
        *first, last = self.layers
        for layer in first:
            x = layer(x, x)
        x = last(x, x[:, -1:])[:, 0]  # (K, W)
        embeddings = self.projection(self.norm(x))  # (K, C)
        return embeddings, embeddings @ self.query  # (K, C), (K, H*C)


class _SuffixLayer(nn.Module):
    """A layer of the tower that contains the keys and values of the prefix."""

    def __init__(self, layer: CLIPEncoderLayer, prefix: Tensor) -> None:
        """Compute the keys and values of the prefix (P, W), which the layers below have computed."""
        super().__init__()
        self.layer = layer
        self.heads = layer.self_attn.num_heads
        self.scale = layer.self_attn.scale
        keys, values = self._keys_and_values(prefix[None])  # (1, heads, P, D)
        self.keys, self.values = nn.Buffer(keys.detach()), nn.Buffer(values.detach())

    def prefix_output(self, prefix: Tensor) -> Tensor:
        """Apply the layer to the prefix itself: (P, W) -> (P, W)."""
        keys, values = self.keys[:, :, :0], self.values[:, :, :0]  # (1, heads, 0, D): nothing comes before it
        return self._attend(prefix[None], prefix[None], keys, values)[0]

    def forward(self, x: Tensor, queries: Tensor) -> Tensor:
        """Apply the layer to the last N rows, ``queries``, of all rows x: (K, L, W), (K, N, W) -> (K, N, W)."""
        keys, values = (part.expand(x.shape[0], -1, -1, -1) for part in (self.keys, self.values))  # (K, heads, P, D)
        output: Tensor = self._attend(x, queries, keys, values)
        return output

    def _attend(self, x: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to rows x (K, L, W) and to keys and values (K, heads, P, D) before them: (K, N, W) -> (K, N, W)."""
        own_keys, own_values = self._keys_and_values(x)  # (K, heads, L, D)
        keys, values = torch.cat([keys, own_keys], dim=2), torch.cat([values, own_values], dim=2)  # (K, heads, S, D)
        N, S = queries.shape[1], keys.shape[2]
        q = self._split(self.layer.self_attn.q_proj(self.layer.layer_norm1(queries))) * self.scale  # (K, heads, N, D)
        place = torch.arange(S)
        hidden = place[None] > place[S - N :, None]  # (N, S), True for tokens that come later
        weights = (q @ keys.transpose(2, 3)).masked_fill(hidden, float("-inf")).softmax(dim=-1)  # (K, heads, N, S)
        gathered = (weights @ values).transpose(1, 2).flatten(2)  # (K, N, W)
        x = queries + self.layer.self_attn.out_proj(gathered)
        output: Tensor = x + self.layer.mlp(self.layer.layer_norm2(x))
        return output

    def _keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of rows x: (K, L, W) -> (K, heads, L, D) each."""
        x, attention = self.layer.layer_norm1(x), self.layer.self_attn
        return self._split(attention.k_proj(x)), self._split(attention.v_proj(x))

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (K, L, W) -> (K, heads, L, D)
        return heads


def text_graph_spec(channels: int, heads: int) -> GraphSpec:
    """The inputs and outputs of the text encoder. K and L may have any size."""
    (token_ids,) = layout.TEXT_ENCODER_INPUTS
    return GraphSpec(
        inputs=(TensorSpec(name=token_ids, dtype="int64", shape=("K", "L")),),
        outputs=(
            TensorSpec(name=layout.EMBEDDINGS, dtype="float32", shape=("K", channels)),
            TensorSpec(name=layout.QUERIES, dtype="float32", shape=("K", heads * channels)),
        ),
    )


def text_encoder_model(encoder: DeployedTextEncoder, spec: GraphSpec) -> onnx.ModelProto:
    """Export the deployed text encoder as an ONNX graph.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    most_tokens = encoder.positions.shape[0]
    example = torch.zeros(3, min(4, most_tokens), dtype=torch.int64)  # PyTorch treats a size of 1 as fixed
    shapes = ({0: Dim("K", min=1, max=MOST_PROMPTS), 1: Dim("L", min=1, max=most_tokens)},)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about the exporter's own internals
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
