"""Losses and gradients on the device, in float32 and bf16, against the CPU's in float32; without an optimizer."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stale_model.data.targets import Targets
from stale_model.network.stale import Stale
from stale_model.training.losses import stale_loss
from stale_model.training.training_config import LossWeights
from tests.gpu.forward_check import allow_tf32
from tests.gpu.gpu_report import Check, Findings, Table
from tests.gpu.gpu_request import GpuRequest
from tests.gpu.made_up import make_features, make_network, make_prompts, make_targets

BATCHES = 3
PRECISIONS = {"float32": None, "bf16": torch.bfloat16}
"""Type that PyTorch casts the factors of products to; None for none."""
LOSS_LIMITS = {"float32": 1e-3, "bf16": 2e-2}
GRADIENT_LIMITS = {"float32": 1e-2, "bf16": 0.3}
"""Largest accepted relative differences; with TF32 off."""


@dataclass(frozen=True, kw_only=True)
class LossAndGradient:
    """The loss of a batch, and its derivatives."""

    loss: float
    gradient: Tensor
    """All parameters' gradients as one vector, on the CPU, float64."""


def check_gradients(request: GpuRequest) -> Findings:
    """Compare the loss and its gradient for a few batches, in evaluation mode, so that no dropout is drawn."""
    sizes = request.sizes
    network = make_network(sizes.length)
    on_device = copy.deepcopy(network).to(request.device)
    prompts = make_prompts(network, sizes.classes)
    worst: dict[str, tuple[float, float]] = {}
    batches = [_make_batch(request, network, seed) for seed in range(BATCHES)]
    expected = [compute_gradient(network, *batch, prompts, device="cpu", cast=None) for batch in batches]
    for precision, cast in PRECISIONS.items():
        found = [compute_gradient(on_device, *batch, prompts, device=request.device, cast=cast) for batch in batches]
        pairs = list(zip(expected, found, strict=True))
        worst[precision] = (
            float(np.max([abs(b.loss - a.loss) / abs(a.loss) for a, b in pairs])),
            float(np.max([float((b.gradient - a.gradient).norm() / a.gradient.norm()) for a, b in pairs])),
        )
    table = Table(
        headers=("precision", "loss", "gradient"),
        formats=("", ".1e", ".1e"),
        rows=tuple((precision, *differences) for precision, differences in worst.items()),
    )
    text = (
        f"A network with random weights, {BATCHES} batches of {sizes.batch_size} videos, T={sizes.length}, "
        f"{sizes.classes} prompts, no dropout, TF32 off: largest relative differences from the CPU in float32; of a "
        "gradient, the norm of the difference by the norm."
    )
    return Findings(text=text, table=table, checks=checks_of_gradients(worst))


def checks_of_gradients(worst: dict[str, tuple[float, float]]) -> tuple[Check, ...]:
    """What must hold of the largest relative differences (loss, gradient) of each precision."""
    return tuple(
        check
        for precision, (loss, gradient) in worst.items()
        for check in (
            Check.at_most(LOSS_LIMITS[precision], f"{precision}: loss", loss),
            Check.at_most(GRADIENT_LIMITS[precision], f"{precision}: gradient", gradient),
        )
    )


def compute_gradient(
    network: Stale, features: Tensor, targets: Targets, prompts: Tensor, *, device: str, cast: torch.dtype | None
) -> LossAndGradient:
    """Run a batch forward and backward.

    Args:
        network: in evaluation mode, on the device.
        features: (B, T, C)
        targets: of the same videos.
        prompts: (K+1, C)
        device: as PyTorch names it.
        cast: type of the factors of products; None for float32.
    """
    network.zero_grad()
    with allow_tf32(False):
        with torch.autocast(device, dtype=cast, enabled=cast is not None):
            outputs = network(features.to(device), prompts.to(device))
        loss = stale_loss(outputs, Targets(*(part.to(device) for part in targets)), LossWeights()).total
        loss.backward()
    gradients = [
        parameter.grad.cpu().double().flatten() for parameter in network.parameters() if parameter.grad is not None
    ]
    return LossAndGradient(loss=float(loss.detach()), gradient=torch.cat(gradients))


def _make_batch(request: GpuRequest, network: Stale, seed: int) -> tuple[Tensor, Targets]:
    B, T, C = request.sizes.batch_size, request.sizes.length, network.config.channels
    return make_features(B, T, C, seed), make_targets(B, T, request.sizes.classes, seed)
