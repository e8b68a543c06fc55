"""The deployed image encoder: CLIP's vision tower as an ONNX graph, rewritten to run faster.

The graph computes the same function as ``CLIPVisionModelWithProjection``, up to rounding. It differs in six ways:

- It takes pixels as bytes; their mean and deviation are folded into the patch embedding.
- The patch embedding is a product of matrices. In int8 its input is exact, because pixels are bytes already.
- The bias of the keys is left out, because softmax does not depend on it, and that of the values is folded into the
  output's, because the weights of attention sum to one.
- The scale of the queries, and the factor in QuickGELU, are folded into the weights before them.
- The class token starts as a constant, because it is the same for every image until the first layer.
- The last layer is computed for the class token alone, because the embedding depends on nothing else.

In int8 each token is rounded by its own range, so that an image's embedding does not depend on the other images of the
batch, and a token with large values does not take precision from the others.

Comments show the shape of a value after the line that computes it. B: images, S: side of an image, P: side of a patch,
G: patches along a side, N: tokens of an image (G*G + 1), W: width of the tower, H: heads, D: width of a head, C: width
of an embedding. Tokens of all images lie below each other: (B*N, W).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from stale_export.graph_builder import FLOAT, GraphBuilder
from stale_export.schemes import RowScheme, Scheme
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec

ACTIVATIONS = ("quick_gelu", "gelu")
"""The activation functions of towers that can be exported, by their names in a CLIP configuration."""
QUICK_GELU = 1.702
"""QuickGELU is x * sigmoid(1.702 x)."""
LOWEST_ACTIVATION = -0.28
"""Below the minimum of x * sigmoid(x), which is -0.2785, and of GELU, which is -0.17."""
PATCHES, PROJECTION = "patches", "projection"
_PARTS = ("query", "key", "value", "output", "hidden", "mlp")
_COLOURS = 3
Matrix = NDArray[np.float32]


class Pixels(NamedTuple):
    """How pixels are normalised, on a scale from 0 to 1: by channel, in the order of the tower's channels."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class ImageSizes(NamedTuple):
    """Sides of the squares that a tower looks at, in pixels."""

    image: int
    patch: int

    @classmethod
    def of(cls, config: CLIPVisionConfig) -> "ImageSizes":
        """The sizes of a configuration, in which they could also be rectangles."""
        assert isinstance(config.image_size, int)
        assert isinstance(config.patch_size, int)
        return cls(config.image_size, config.patch_size)

    @property
    def tokens(self) -> int:
        """N, a token for each whole patch, and the class token."""
        return (self.image // self.patch) ** 2 + 1


def vision_graph_spec(image_size: int, channels: int) -> GraphSpec:
    """The input and output of the graph. B may have any size."""
    images = TensorSpec(name=layout.IMAGES, dtype="uint8", shape=("B", image_size, image_size, _COLOURS))
    embeddings = TensorSpec(name=layout.IMAGE_EMBEDDINGS, dtype="float32", shape=("B", channels))
    return GraphSpec(inputs=(images,), outputs=(embeddings,))


def row_schemes(layers: int, weight_bits: int) -> dict[str, Scheme]:
    """Quantization of all products with weights of a tower, by their names."""
    plain = RowScheme(weight_bits=weight_bits)
    after_activation = RowScheme(weight_bits=weight_bits, lowest=LOWEST_ACTIVATION)
    inner = {f"{n}.{part}": after_activation if part == "mlp" else plain for n in range(layers) for part in _PARTS}
    return {PATCHES: plain, **inner, PROJECTION: plain}


def vision_model(
    tower: CLIPVisionModelWithProjection, pixels: Pixels, schemes: Mapping[str, Scheme] = FLOAT
) -> onnx.ModelProto:
    """Build the deployed graph of a vision tower.

    Args:
        tower: in evaluation mode, with one of ``ACTIVATIONS``.
        pixels: how pixels are normalised.
        schemes: quantization of its products, see ``row_schemes``; those that are not named stay in float.
    """
    graph = GraphBuilder(schemes=schemes)
    vision, sizes = tower.vision_model, ImageSizes.of(tower.config)
    x = _embed_patches(graph, tower, pixels)  # (B*N, W)
    layers = list(vision.encoder.layers)
    for n, layer in enumerate(layers):
        x = _Layer(graph, f"{n}", layer, sizes.tokens).apply(
            x, class_only=n == len(layers) - 1
        )  # (B*N, W), at last (B, W)
    x = _normalize(graph, "post_norm", vision.post_layernorm, x)
    x = graph.linear(PROJECTION, x, _matrix(tower.visual_projection.weight))  # (B, C)
    graph.name(layout.IMAGE_EMBEDDINGS, x)
    return graph.model(vision_graph_spec(sizes.image, tower.config.projection_dim))


def _embed_patches(graph: GraphBuilder, tower: CLIPVisionModelWithProjection, pixels: Pixels) -> str:
    """Cut images (B, S, S, 3) of bytes into patches, embed and normalise these: (B*N, W)."""
    embeddings, norm = tower.vision_model.embeddings, tower.vision_model.pre_layrnorm
    kernel = _array(embeddings.patch_embedding.weight).astype(np.float64)  # (W, 3, P, P)
    W, (S, P) = len(kernel), ImageSizes.of(tower.config)
    G = S // P
    mean, deviation = (255 * np.array(values) for values in pixels)
    kernel = kernel.transpose(2, 3, 1, 0) / deviation[:, None]  # (P, P, 3, W)
    zero = int(np.clip(round(mean.mean()), 0, 255))  # the byte around which pixels spread
    bias = ((zero - mean)[:, None] * kernel).sum(axis=(0, 1, 2))  # (W,)
    positions = _array(embeddings.position_embedding.weight).astype(np.float64)  # (N, W)

    whole = layout.IMAGES
    if S % P:  # the tower ignores what is left at the right and at the bottom
        ends = graph.integers(G * P, G * P)
        whole = graph.op("Slice", whole, graph.integers(0, 0), ends, graph.integers(1, 2))
    x = graph.op("Reshape", whole, graph.integers(-1, G, P, G, P * _COLOURS))
    x = graph.op("Transpose", x, perm=[0, 1, 3, 2, 4])  # (B, G, G, P, P*3)
    x = graph.op("Reshape", x, graph.integers(-1, G * G, P * P * _COLOURS))
    x = graph.multiply_bytes(PATCHES, x, zero, kernel.reshape(-1, W).astype(np.float32))  # (B, N-1, W)
    x = graph.op("Add", x, graph.weight("positions", (positions[1:] + bias).astype(np.float32)))
    x = _normalize(graph, "pre_norm", norm, x)
    start = norm(embeddings.class_embedding + embeddings.position_embedding.weight[0])  # (W,)
    counts = graph.op("Concat", graph.op("Shape", x, end=1), graph.integers(1, 1), axis=0)
    starts = graph.op("Expand", graph.weight("class_token", _array(start)), counts)  # (B, 1, W)
    return graph.op("Reshape", graph.op("Concat", starts, x, axis=1), graph.integers(-1, W))


class _Layer:
    """A layer of the tower, to be written into a graph."""

    def __init__(self, graph: GraphBuilder, name: str, layer: Any, tokens: int) -> None:
        """The layer is a ``CLIPEncoderLayer``; N tokens belong to an image."""
        self.graph, self.name, self.layer, self.N = graph, name, layer, tokens
        self.H = layer.self_attn.num_heads
        self.W = layer.self_attn.embed_dim

    def apply(self, x: str, *, class_only: bool) -> str:
        """Apply the layer to tokens (B*N, W): (B*N, W), or (B, W) for the class token alone."""
        graph, layer = self.graph, self.layer
        y = _normalize(graph, f"{self.name}.norm1", layer.layer_norm1, x)
        queries = y
        if class_only:
            x, queries = self._class_tokens(x), self._class_tokens(y)  # (B, W)
        gathered = self._attend(queries, y, 1 if class_only else self.N)
        output, value = layer.self_attn.out_proj, layer.self_attn.v_proj
        bias = _array(value.bias).astype(np.float64) @ _matrix(output.weight) + _array(output.bias)
        x = graph.op("Add", self._linear("output", gathered, _matrix(output.weight), bias), x)
        y = _normalize(graph, f"{self.name}.norm2", layer.layer_norm2, x)
        return graph.op("Add", self._mlp(y), x)

    def _attend(self, queries: str, tokens: str, count: int) -> str:
        """Attention of ``count`` tokens of each image to all its tokens: (B*count, W), (B*N, W) -> (B*count, W)."""
        graph, attention, D = self.graph, self.layer.self_attn, self.W // self.H
        scale = np.float32(D**-0.5)
        query, query_bias = _matrix(attention.q_proj.weight) * scale, _array(attention.q_proj.bias) * scale
        q = self._split(self._linear("query", queries, query, query_bias), count, [0, 2, 1, 3])  # (B, H, count, D)
        k = self._split(self._linear("key", tokens, _matrix(attention.k_proj.weight)), self.N, [0, 2, 3, 1])
        v = self._split(self._linear("value", tokens, _matrix(attention.v_proj.weight)), self.N, [0, 2, 1, 3])
        weights = graph.op("Softmax", graph.op("MatMul", q, k), axis=-1)  # (B, H, count, D) @ (B, H, D, N)
        gathered = graph.op("Transpose", graph.op("MatMul", weights, v), perm=[0, 2, 1, 3])  # (B, count, H, D)
        return graph.op("Reshape", gathered, graph.integers(-1, self.W))

    def _mlp(self, x: str) -> str:
        """The two products of the layer with the activation function between them: (R, W) -> (R, W)."""
        graph, mlp = self.graph, self.layer.mlp
        (hidden, hidden_bias), (output, output_bias) = ((_matrix(p.weight), _array(p.bias)) for p in (mlp.fc1, mlp.fc2))
        if mlp.config.hidden_act == "gelu":
            y = graph.op("Gelu", self._linear("hidden", x, hidden, hidden_bias))
            return self._linear("mlp", y, output, output_bias)
        factor = np.float32(QUICK_GELU)
        y = self._linear("hidden", x, hidden * factor, hidden_bias * factor)
        return self._linear("mlp", graph.op("Mul", y, graph.op("Sigmoid", y)), output / factor, output_bias)

    def _linear(self, part: str, x: str, weights: Matrix, bias: NDArray[Any] | None = None) -> str:
        product = self.graph.linear(f"{self.name}.{part}", x, weights)
        if bias is None:
            return product
        return self.graph.op("Add", product, self.graph.weight(f"{self.name}.{part}.bias", bias.astype(np.float32)))

    def _split(self, x: str, count: int, perm: list[int]) -> str:
        """Split rows (B*count, W) into heads (B, count, H, D), and permute these axes."""
        heads = self.graph.op("Reshape", x, self.graph.integers(-1, count, self.H, self.W // self.H))
        return self.graph.op("Transpose", heads, perm=perm)

    def _class_tokens(self, x: str) -> str:
        """The first token of each image: (B*N, W) -> (B, W)."""
        images = self.graph.op("Reshape", x, self.graph.integers(-1, self.N, self.W))
        return self.graph.op("Gather", images, self.graph.scalar(0), axis=1)


def _normalize(graph: GraphBuilder, name: str, norm: Any, x: str) -> str:
    """Apply a ``LayerNorm``: (..., W) -> (..., W)."""
    weight, bias = (graph.weight(f"{name}.{kind}", _array(getattr(norm, kind))) for kind in ("weight", "bias"))
    return graph.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.eps)


def _array(tensor: Tensor) -> Matrix:
    array: Matrix = tensor.detach().numpy()
    return array


def _matrix(weight: Tensor) -> Matrix:
    """The weights of a linear layer (N, M) as a product takes them: (M, N)."""
    return _array(weight).T
