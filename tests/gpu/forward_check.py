"""The forward pass on the device against the CPU's in float32."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stale_model.network.stale import Localization, Stale
from tests.gpu.gpu_report import Cell, Check, Findings, Table
from tests.gpu.gpu_request import GpuRequest
from tests.gpu.made_up import make_features, make_network, make_prompts

EXACT_MASKS, EXACT_LOGITS = 1e-5, 5e-3
"""Largest accepted differences in float32; class activations reach ±100."""
TF32_MASKS, TF32_DECIDED_OTHERWISE = 2e-2, 0.1
"""With TF32, whose products have 10 bits: of masks, and the share of snippets that masking decides otherwise."""
MARGIN = 1e-5
"""In float32, masking may decide otherwise only on snippets whose mask is this close to the threshold."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How two forward passes of the same videos differ."""

    masks: float
    """Largest difference of action masks."""
    logits: float | None
    """Largest difference of class activations, over videos whose snippets are all masked alike; None if none are."""
    logits_rms: float
    """Root mean square over all videos."""
    decided_otherwise: float
    """Share of the snippets that representation masking keeps in one and drops in the other."""
    without_reason: int
    """Those of them whose mask is further than ``MARGIN`` from the threshold."""


def check_forward(request: GpuRequest) -> Findings:
    """Compare class activations and masks at several lengths, with TF32 off and on."""
    network, prompts, what = _network_and_prompts(request)
    on_device = copy.deepcopy(network)
    rows: list[tuple[Cell, ...]] = []
    checks: list[Check] = []
    for T in request.sizes.forward_lengths:
        features = _features(request, T, network.config.channels)
        for tf32 in (False, True):
            found = compare_forward(network, on_device, features, prompts, device=request.device, tf32=tf32)
            name = f"T={T}, TF32 {'on' if tf32 else 'off'}"
            rows.append(
                (T, "on" if tf32 else "off", found.masks, found.logits, found.logits_rms, found.decided_otherwise)
            )
            checks += checks_of(found, name, tf32=tf32)
    headers = ("T", "TF32", "masks", "class activations", "class activations, rms", "snippets masked otherwise")
    table = Table(headers=headers, formats=(".0f", "", ".1e", ".1e", ".1e", ".2%"), rows=tuple(rows))
    text = (
        f"{what}, {request.sizes.forward_videos} videos of each length and {len(prompts) - 1} prompts: largest "
        "differences from the CPU in float32. Class activations reach ±100; their largest difference is over the "
        "videos whose snippets are all masked alike."
    )
    return Findings(text=text, table=table, checks=tuple(checks))


def checks_of(found: Difference, name: str, *, tf32: bool) -> list[Check]:
    """What must hold of a difference."""
    if tf32:
        return [
            Check.at_most(TF32_MASKS, f"{name}: masks", found.masks),
            Check.at_most(TF32_DECIDED_OTHERWISE, f"{name}: snippets masked otherwise", found.decided_otherwise),
        ]
    logits = float("nan") if found.logits is None else found.logits
    return [
        Check.at_most(EXACT_MASKS, f"{name}: masks", found.masks),
        Check.at_most(EXACT_LOGITS, f"{name}: class activations", logits),
        Check.at_most(0, f"{name}: snippets masked otherwise without reason", found.without_reason),
    ]


def compare_forward(
    on_cpu: Stale, on_device: Stale, features: Sequence[Tensor], prompts: Tensor, *, device: str, tf32: bool
) -> Difference:
    """Run the same videos through two networks.

    Args:
        on_cpu: computes on the CPU.
        on_device: is moved to the device.
        features: a (T, C) for each video.
        prompts: (K+1, C)
        device: as PyTorch names it.
        tf32: whether the device may round the factors of float32 products to 10 bits.
    """
    on_device = on_device.to(device)
    differences = []
    with torch.inference_mode(), allow_tf32(tf32):
        for video in features:  # (T, C)
            expected = on_cpu.localize(video[None], prompts)
            found = on_device.localize(video[None].to(device), prompts.to(device))
            differences.append(_compare(expected, Localization(*(output.cpu() for output in found))))
    alike = [one.logits for one in differences if one.logits is not None]
    return Difference(
        masks=float(np.max([one.masks for one in differences])),
        logits=float(np.max(alike)) if alike else None,
        logits_rms=float(np.sqrt(np.mean([one.logits_rms**2 for one in differences]))),
        decided_otherwise=float(np.mean([one.decided_otherwise for one in differences])),
        without_reason=sum(one.without_reason for one in differences),
    )


def _compare(expected: Localization, found: Localization) -> Difference:
    """Compare the outputs for one video."""
    strengths = [masks[0].mean(dim=1) for masks in (expected.action_masks, found.action_masks)]  # (T,)
    margins = [strength - strength.mean() for strength in strengths]
    otherwise = (margins[0] >= 0) != (margins[1] >= 0)
    logits = (expected.cas_logits - found.cas_logits).double()
    return Difference(
        masks=float((expected.action_masks - found.action_masks).abs().max()),
        logits=None if otherwise.any() else float(logits.abs().max()),
        logits_rms=float(logits.square().mean().sqrt()),
        decided_otherwise=float(otherwise.double().mean()),
        without_reason=int((otherwise & (margins[0].abs() > MARGIN)).sum()),
    )


@contextmanager
def allow_tf32(on: bool) -> Iterator[None]:
    """Allow or forbid TF32 in matrix products and convolutions."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _network_and_prompts(request: GpuRequest) -> tuple[Stale, Tensor, str]:
    """The reference's trained network and prompts if they are there, else made-up ones, and what they are."""
    path = None if request.reference is None else request.reference / "best.pth"
    if path is None or not path.is_file():
        network = make_network(request.sizes.length)
        return network, make_prompts(network, request.sizes.classes), "A network with random weights"
    from stale_model.checkpoints.checkpoint import read_original_checkpoint
    from stale_model.training.training_loop import tokenize

    trained = read_original_checkpoint(path, str(path.parent / "clip"))
    names = (path.parent / "classes.txt").read_text().splitlines()[: request.sizes.classes]
    with torch.inference_mode():
        prompts = trained.network.with_background(trained.tower(tokenize(trained.clip, names)))
    return trained.network, prompts, "The reference's trained network"


def _features(request: GpuRequest, T: int, C: int) -> list[Tensor]:
    """Features (T, C) of each video: of the reference if it is there, else made up."""
    folder = request.reference or Path()
    files = sorted((folder / "features").glob("*.npy")) if request.reference is not None else []
    if not files:
        return list(make_features(request.sizes.forward_videos, T, C))
    from stale_runtime.inputs.feature_file import read_features
    from stale_runtime.inputs.features import resample

    return [torch.from_numpy(resample(read_features(file, C), T)) for file in files[: request.sizes.forward_videos]]
