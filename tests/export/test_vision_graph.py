from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import CLIPVisionModelWithProjection

from stale_export.drawn_images import draw_images
from stale_export.graph_builder import GraphBuilder, serialize
from stale_export.quantization import count_integer_operators
from stale_export.schemes import PORTABLE_BITS, TARGETS, DynamicScheme, RowScheme, Scheme, bits_for
from stale_export.vision_graph import Pixels, row_schemes, vision_model
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.inputs.recipe import CLIP_DEVIATION, CLIP_MEAN
from tests import tiny
from tests.export.graphs import assert_whole_and_anonymous
from tests.export.int8 import initializers

PIXELS = Pixels(CLIP_MEAN, CLIP_DEVIATION)
IMAGES = draw_images(5, tiny.IMAGE_SIZE)
TOWERS: dict[str, dict[str, Any]] = {
    "two layers": {},
    "one layer": {"num_hidden_layers": 1},
    "gelu": {"hidden_act": "gelu"},
    "pixels left over": {"image_size": 37},
    "one patch": {"patch_size": 32},
    "one head": {"num_attention_heads": 1, "layer_norm_eps": 0.1},
}


def expected(tower: CLIPVisionModelWithProjection, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What PyTorch computes from pixels that are normalised as Hugging Face does it."""
    pixels = (torch.from_numpy(images).double() / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_DEVIATION)
    with torch.no_grad():
        embeddings: NDArray[np.float32] = tower(pixel_values=pixels.float().permute(0, 3, 1, 2)).image_embeds.numpy()
    return embeddings


def embed(model: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = open_session(model, name="vision", threads=1)
    (embeddings,) = session.run(["image_embeddings"], {"images": images})
    assert isinstance(embeddings, np.ndarray)
    return embeddings


def lowest_cosine(got: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    products = (got * wanted).sum(axis=1)
    return float((products / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)).min())


@pytest.mark.parametrize("changes", TOWERS.values(), ids=TOWERS)
def test_the_graph_computes_what_the_tower_does(changes: dict[str, Any]) -> None:
    tower = tiny.make_vision_tower(**changes)
    images = draw_images(3, changes.get("image_size", tiny.IMAGE_SIZE))
    model = serialize(vision_model(tower, PIXELS))
    wanted = expected(tower, images)
    np.testing.assert_allclose(embed(model, images), wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
    assert_whole_and_anonymous(model)


@pytest.mark.parametrize("name", dict(tiny.make_vision_tower().named_parameters()))
def test_every_parameter_counts_as_in_the_tower(name: str) -> None:
    tower = tiny.make_vision_tower()
    before = expected(tower, IMAGES[:2])
    with torch.no_grad():
        dict(tower.named_parameters())[name].mul_(1.5)
    wanted = expected(tower, IMAGES[:2])
    assert name.endswith("k_proj.bias") == np.allclose(wanted, before, rtol=0, atol=1e-5)  # which softmax ignores
    got = embed(serialize(vision_model(tower, PIXELS)), IMAGES[:2])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("bits", [None, *TARGETS.values()])
def test_an_image_gets_the_same_embedding_in_any_batch(bits: int | None) -> None:
    schemes = row_schemes(2, bits) if bits is not None else {}
    model = serialize(vision_model(tiny.make_vision_tower(), PIXELS, schemes))
    images = np.concatenate([IMAGES, np.zeros_like(IMAGES[:1]), np.full_like(IMAGES[:1], 255)])
    together = embed(model, images)
    assert np.isfinite(together).all()
    for start, end in ((0, 1), (1, 4), (4, 7), (6, 7)):
        np.testing.assert_array_equal(embed(model, images[start:end]), together[start:end])


@pytest.mark.parametrize("target", TARGETS)
def test_all_products_are_computed_in_integers_and_mean_the_same(target: str) -> None:
    tower = tiny.make_vision_tower()
    schemes = row_schemes(2, bits_for(target))
    model = serialize(vision_model(tower, PIXELS, schemes))
    assert count_integer_operators(model) == len(schemes) == 2 + 6 * 2
    cosine = lowest_cosine(embed(model, IMAGES), expected(tower, IMAGES))
    assert 0.995 < cosine < 1 - 1e-7


def test_portable_weights_leave_room_for_products_on_any_cpu() -> None:
    model = serialize(vision_model(tiny.make_vision_tower(), PIXELS, row_schemes(2, PORTABLE_BITS)))
    weights = [values for values in initializers(model).values() if values.dtype == np.int8]
    assert len(weights) == 14
    assert max(int(np.abs(values.astype(int)).max()) for values in weights) == 63


def multiply(scheme: Scheme, rows: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply rows by weights in a graph."""
    graph = GraphBuilder(schemes={"layer": scheme})
    graph.name("y", graph.linear("layer", "x", weights))
    interface = [TensorSpec(name=name, dtype="float32", shape=("R", size)) for name, size in (("x", 64), ("y", 32))]
    model = graph.model(GraphSpec(inputs=(interface[0],), outputs=(interface[1],)))
    (product,) = open_session(serialize(model), name="layer", threads=1).run(["y"], {"x": rows})
    assert isinstance(product, np.ndarray)
    return product


@pytest.mark.parametrize("lowest", [None, -0.28])
def test_a_row_with_large_values_takes_no_precision_from_the_others(lowest: float | None) -> None:
    dice = np.random.default_rng(0)
    rows, weights = dice.standard_normal((6, 64), np.float32), dice.integers(-127, 128, (64, 32)).astype(np.float32)
    weights[0] = 127  # then all weights are exact in int8
    if lowest is not None:
        rows = np.maximum(rows, np.float32(lowest))
    rows[2] *= 1000 if lowest is None else np.where(rows[2] > 0, 1000, 1)
    rows[4] = 0
    exact = rows @ weights
    errors = [
        np.linalg.norm(multiply(scheme, rows, weights) - exact, axis=1) / np.maximum(np.linalg.norm(exact, axis=1), 1)
        for scheme in (RowScheme(weight_bits=8, lowest=lowest), DynamicScheme(weight_bits=8))
    ]
    assert errors[0].max() < 0.015
    if lowest is not None:  # nearly all bytes stand for what an activation function gives
        symmetric = multiply(RowScheme(weight_bits=8), rows, weights) - exact
        assert np.linalg.norm(multiply(RowScheme(weight_bits=8, lowest=lowest), rows, weights) - exact) < 0.8 * (
            np.linalg.norm(symmetric)
        )
    assert errors[0][4] == 0
    assert errors[1].max() > 0.3
