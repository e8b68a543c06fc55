import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stale_export.folding import FoldedAttention
from stale_model.network.attention import WideAttention
from tests import tiny

C = 16
Array = NDArray[np.float64]


def make_block(heads: int) -> WideAttention:
    block = WideAttention(channels=C, heads=heads, dropout=0.2, attention_dropout=0.1).eval()
    tiny.randomize(block, seed=heads)
    block.norm.eps = 1e-3  # so that it is read, and not what ONNX takes for granted
    return block


def attend(folded: FoldedAttention, queries: Array, memory: Array) -> Array:
    """What a folded block stands for: queries (N, C), memory (T, C) -> (N, C)."""
    gathered = []
    for query in np.split(queries @ folded.query, folded.heads, axis=1):
        scores = query @ memory.T
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        gathered.append(weights / weights.sum(axis=1, keepdims=True) @ memory)
    mixed = np.hstack(gathered) @ folded.output + folded.bias + queries
    centred = mixed - mixed.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + folded.norm_epsilon)
    return np.asarray(scaled * folded.norm_weight + folded.norm_bias)


def draw(seed: int = 0) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((5, C)), generator.standard_normal((9, C))


def plain(block: WideAttention, queries: Array, memory: Array) -> Array:
    with torch.no_grad():
        attended = block.double()(torch.from_numpy(queries)[None], torch.from_numpy(memory)[None])
    return np.asarray(attended[0].numpy())


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
def test_a_folded_block_is_the_block(heads: int) -> None:
    block = make_block(heads)
    folded = FoldedAttention.of(block)
    queries, memory = draw()
    np.testing.assert_allclose(attend(folded, queries, memory), plain(block, queries, memory), rtol=0, atol=1e-5)
    np.testing.assert_allclose(attend(folded, memory, memory), plain(block, memory, memory), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, _ in make_block(1).named_parameters()])
def test_every_weight_is_folded_in(name: str) -> None:
    block = make_block(2)
    folded = FoldedAttention.of(block)
    with torch.no_grad():
        block.get_parameter(name).view(-1)[3] += 0.1
    queries, memory = draw()
    assert np.abs(attend(folded, queries, memory) - plain(block, queries, memory)).max() > 1e-4
    refolded = attend(FoldedAttention.of(block), queries, memory)
    np.testing.assert_allclose(refolded, plain(block, queries, memory), rtol=0, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 3])
def test_there_are_two_matrices_a_head(heads: int) -> None:
    folded = FoldedAttention.of(make_block(heads))
    assert folded.heads == heads
    assert folded.query.shape == (C, heads * C)
    assert folded.output.shape == (heads * C, C)
    assert folded.bias.shape == folded.norm_weight.shape == folded.norm_bias.shape == (C,)
    matrices = (folded.query, folded.output, folded.bias, folded.norm_weight, folded.norm_bias)
    assert all(matrix.dtype == np.float32 for matrix in matrices)
    assert folded.norm_epsilon == 1e-3


def test_the_products_are_of_more_than_single_precision() -> None:
    block = make_block(2)
    with torch.no_grad():  # the first product is 1 + 1e6 - 1e6, of which single precision makes 0
        for linear, values in ((block.query, (1, 1e6, -1e6)), (block.key, (1e-3, 1, 1))):
            linear.weight.zero_()
            linear.weight[:3, 0] = torch.tensor(values)
    assert FoldedAttention.of(block).query[0, 0] == pytest.approx(1e-3 / C**0.5, rel=1e-6)


def test_the_block_stays_as_it_was() -> None:
    block = make_block(2)
    before = {name: weight.clone() for name, weight in block.state_dict().items()}
    FoldedAttention.of(block)
    assert all(torch.equal(weight, before[name]) for name, weight in block.state_dict().items())
    assert block.query.weight.dtype == torch.float32
