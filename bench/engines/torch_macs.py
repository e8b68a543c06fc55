"""Counting the multiplications of a PyTorch network, without running it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stale_bench.engines.macs import Macs


def count_torch(make: Callable[[], nn.Module], *shapes: tuple[int, ...], ids: tuple[int, ...] | None = None) -> Macs:
    """Count the multiply-accumulates of a forward pass; those of linear layers count as int8.

    Args:
        make: makes the network in float; its weights take no memory here.
        shapes: shapes of its float32 inputs.
        ids: shape of the last input, which is int64; None if there is none.
    """
    linear = 0

    def add(layer: nn.Linear, _inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal linear
        linear += output.numel() * layer.in_features

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = make().eval()
        for layer in network.modules():
            if type(layer) is nn.Linear:  # those inside nn.MultiheadAttention stay in float
                layer.register_forward_hook(add)
        inputs = [torch.empty(shape) for shape in shapes]
        network(*inputs, *([] if ids is None else [torch.zeros(ids, dtype=torch.int64)]))
    return Macs(total=counter.get_total_flops() // 2, int8=linear)
