import math

import pytest
import torch
from torch import Tensor

from stale_model import StaleConfig
from stale_model.network.foreground import ForegroundBranch, sine_positions
from tests import tiny

CONFIG = StaleConfig(
    channels=16, temporal_scale=16, heads=2, mask_channels=8, foreground_layers=2, foreground_feedforward=4
)


def make_branch() -> ForegroundBranch:
    branch = ForegroundBranch(CONFIG)
    tiny.randomize(branch)
    return branch.eval()


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def position_slowly(t: int, T: int, C: int) -> list[float]:
    """DETR's positions of row t in an image of T columns and one row: the row's half, then the column's."""
    half: list[list[float]] = []
    for place, size in ((1, 1), (t + 1, T)):
        angle = place / (size + 1e-6) * 2 * math.pi
        waves = [angle / 10000 ** (2 * (c // 2) / (C // 2)) for c in range(C // 2)]
        half.append([math.cos(wave) if c % 2 else math.sin(wave) for c, wave in enumerate(waves)])
    return half[0] + half[1]


@pytest.mark.parametrize(("T", "C"), [(1, 4), (7, 16), (100, 32), (333, 512)])
def test_positions_equal_the_formula(T: int, C: int) -> None:
    expected = torch.tensor([position_slowly(t, T, C) for t in range(T)])
    got = sine_positions(T, C, like=torch.empty(0))
    assert got.shape == (T, C)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_positions_take_the_features_precision() -> None:
    assert sine_positions(3, 8, like=torch.empty(0, dtype=torch.float64)).dtype == torch.float64


def test_no_two_snippets_have_the_same_position() -> None:
    positions = sine_positions(100, 16, like=torch.empty(0))
    assert torch.cdist(positions, positions).fill_diagonal_(1).min() > 1e-2


@pytest.mark.parametrize(("B", "T"), [(1, 1), (2, 7), (3, 33)])
def test_every_snippet_gets_a_score(B: int, T: int) -> None:
    with torch.no_grad():
        mask = make_branch()(draw(B, T, 16, seed=1), draw(B, T, 16, seed=2))
    assert mask.shape == (B, T)
    assert mask.isfinite().all()
    assert T == 1 or mask.std() > 1e-3


def test_the_mask_is_the_snippets_dotted_with_one_embedding() -> None:
    branch, features = make_branch(), draw(2, 16, 16, seed=1)
    with torch.no_grad():
        embedding = branch(features, torch.eye(16).expand(2, 16, 16))  # (B, C), as T = C unit vectors
        snippets = draw(2, 16, 16, seed=2)
        expected = torch.einsum("btc,bc->bt", snippets, embedding)
        torch.testing.assert_close(branch(features, snippets), expected, rtol=0, atol=1e-4)


def test_videos_of_a_batch_do_not_meet() -> None:
    # In float64, since kernels add in an order that goes with the batch.
    branch, features, snippets = (
        make_branch().double(),
        draw(3, 9, 16, seed=1).double(),
        draw(3, 9, 16, seed=2).double(),
    )
    with torch.no_grad():
        alone = torch.cat([branch(features[b : b + 1], snippets[b : b + 1]) for b in range(3)])
        torch.testing.assert_close(branch(features, snippets), alone, rtol=0, atol=1e-12)


def test_it_knows_when_something_happens() -> None:
    branch, features, snippets = make_branch(), draw(1, 9, 16, seed=1), draw(1, 9, 16, seed=2)
    with torch.no_grad():
        difference = branch(features, snippets) - branch(features.flip(1), snippets)
    assert difference.abs().max() > 1e-4


def test_both_halves_know_the_positions() -> None:
    branch, memory, positions = make_branch(), draw(1, 9, 16, seed=1), draw(9, 16, seed=2)
    with torch.no_grad():
        for layer in branch.encoder:
            assert (layer(memory, positions) - layer(memory, 0 * positions)).abs().max() > 1e-4
        for layer in branch.decoder:
            x = draw(1, 1, 16, seed=3)
            difference = layer(x, branch.query, memory, positions) - layer(x, branch.query, memory, 0 * positions)
            assert difference.abs().max() > 1e-4


@pytest.mark.parametrize("name", [name for name, _ in ForegroundBranch(CONFIG).named_parameters()])
def test_every_parameter_matters(name: str) -> None:
    branch, features, snippets = make_branch(), draw(4, 9, 16, seed=1), draw(4, 9, 16, seed=2)
    with torch.no_grad():
        before = branch(features, snippets)
        branch.get_parameter(name).add_(draw(*branch.get_parameter(name).shape, seed=3))
        after = branch(features, snippets)
    normalises_zeros = name == "decoder.0.self_attention_norm.weight"
    assert torch.equal(before, after) == normalises_zeros
