import torch
from torch import Tensor, nn

from stale_bench.engines.torch_macs import count_torch


class Known(nn.Module):
    """A lookup, a linear layer, a convolution and a product, the sizes of which are easy to count."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(10, 8)
        self.linear = nn.Linear(8, 4)
        self.convolution = nn.Conv1d(4, 6, kernel_size=3, padding=1)

    def forward(self, x: Tensor, token_ids: Tensor) -> Tensor:
        y: Tensor = self.linear(x + self.tokens(token_ids).sum(dim=0))  # (T, 4)
        z: Tensor = self.convolution(y.T[None])[0]  # (6, T)
        return z @ y


def test_products_and_convolutions_count_and_linear_layers_apart() -> None:
    linear, convolution, product = 5 * 8 * 4, 5 * 6 * 4 * 3, 6 * 5 * 4
    assert count_torch(Known, (5, 8), ids=(3,)) == (linear + convolution + product, linear)


def test_attention_counts_in_full() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert count_torch(Attention, (1, 2, 7, 4)) == (2 * 2 * 7 * 7 * 4, 0)


def test_no_memory_is_taken() -> None:
    made: list[nn.Linear] = []

    def make() -> nn.Module:
        made.append(nn.Linear(2**17, 2**17))
        return made[0]

    assert count_torch(make, (1, 2**17)).total == 2**34
    assert made[0].weight.device == torch.device("meta")
