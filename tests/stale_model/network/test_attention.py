import math

import pytest
import torch
from torch import Tensor

from stale_model.network.attention import WideAttention
from tests import tiny


def make_block(*, channels: int, heads: int, dropout: float = 0.0) -> WideAttention:
    block = WideAttention(channels=channels, heads=heads, dropout=dropout, attention_dropout=dropout)
    tiny.randomize(block)
    return block.eval()


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attend_slowly(block: WideAttention, queries: Tensor, memory: Tensor) -> Tensor:
    """One video, one query and one head at a time, in double precision."""
    weight = {name: tensor.double() for name, tensor in block.state_dict().items()}
    B, N, C = queries.shape
    out = torch.zeros(B, N, C, dtype=torch.float64)
    for b in range(B):
        y = memory[b].double()
        for n in range(N):
            x = queries[b, n].double()
            heads = []
            for h in range(block.heads):
                rows = slice(h * C, (h + 1) * C)
                q = weight["query.weight"][rows] @ x
                logits = torch.stack([q @ (weight["key.weight"][rows] @ snippet) / math.sqrt(C) for snippet in y])
                share = logits.exp() / logits.exp().sum()
                values = [weight["value.weight"][rows] @ snippet for snippet in y]
                heads.append(sum((p * value for p, value in zip(share, values, strict=True)), torch.zeros(C)))
            z = weight["output.weight"] @ torch.cat(heads) + weight["output.bias"] + x
            z = (z - z.mean()) / ((z - z.mean()).square().mean() + 1e-5).sqrt()
            out[b, n] = z * weight["norm.weight"] + weight["norm.bias"]
    return out


@pytest.mark.parametrize(("B", "N", "T", "C", "H"), [(1, 1, 1, 4, 1), (2, 5, 7, 8, 3), (3, 4, 2, 16, 2)])
def test_it_equals_a_loop_over_heads(B: int, N: int, T: int, C: int, H: int) -> None:
    block = make_block(channels=C, heads=H)
    queries, memory = draw(B, N, C, seed=1), draw(B, T, C, seed=2)
    with torch.no_grad():
        got = block(queries, memory)
    assert got.shape == (B, N, C)
    torch.testing.assert_close(got.double(), attend_slowly(block, queries, memory), rtol=0, atol=2e-6)


def test_every_head_is_as_wide_as_the_model() -> None:
    block = WideAttention(channels=8, heads=3, dropout=0.0, attention_dropout=0.0)
    shapes = {name: tuple(tensor.shape) for name, tensor in block.state_dict().items()}
    assert shapes == {
        "query.weight": (24, 8),
        "key.weight": (24, 8),
        "value.weight": (24, 8),
        "output.weight": (8, 24),
        "output.bias": (8,),
        "norm.weight": (8,),
        "norm.bias": (8,),
    }


def test_the_order_of_the_memory_does_not_matter() -> None:
    block = make_block(channels=8, heads=2)
    queries, memory = draw(1, 3, 8, seed=1), draw(1, 6, 8, seed=2)
    with torch.no_grad():
        torch.testing.assert_close(block(queries, memory), block(queries, memory.flip(1)), rtol=0, atol=1e-6)


def test_one_changed_weight_changes_the_output() -> None:
    block = make_block(channels=8, heads=2)
    queries, memory = draw(1, 3, 8, seed=1), draw(1, 6, 8, seed=2)
    with torch.no_grad():
        before = block(queries, memory)
        block.key.weight[9, 3] += 0.1
        after = block(queries, memory)
    assert (after - before).abs().max() > 1e-4


def test_dropout_acts_in_training_only_and_not_on_the_residual() -> None:
    block = make_block(channels=8, heads=2, dropout=0.5)
    queries, memory = draw(1, 3, 8, seed=1), draw(1, 6, 8, seed=2)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        assert torch.equal(block(queries, memory), block(queries, memory))
        block.train()
        assert not torch.equal(block(queries, memory), block(queries, memory))
        block.dropout.p = 1.0
        torch.testing.assert_close(block(queries, memory), block.norm(queries))
