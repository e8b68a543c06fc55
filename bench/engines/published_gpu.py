"""The network as published, on a GPU.

Source: ``STALE_closed/stale_compute_inference.py`` of the thesis's repository prints the peak of allocated memory,
    which it never resets, of a network with CLIP's image tower and with gradients enabled. Here it is the peak at one
    length, without the image tower and without gradients, so it is less.
"""

import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from stale_bench.engines.engine import Step
from stale_bench.engines.published import Published
from stale_bench.protocol import Facts
from stale_runtime.segments import FloatArray

_BUSY_S = 3.0
"""How long the GPU is kept busy to measure its utilisation."""
_BETWEEN_S = 0.1
"""Time between two readings of the utilisation."""


class PublishedOnGpu(Published):
    """``upstream-fp32`` on the first GPU."""

    device = "cuda"

    def steps(self, features: FloatArray) -> Mapping[str, Step]:
        """The forward pass, on features that are on the GPU already."""
        return {"forward": super().steps(features)["forward"]}

    def facts(self, features: FloatArray) -> Facts:
        """Multiplications, and the GPU's memory and utilisation while it runs one forward pass after the other."""
        forward = self.steps(features)["forward"]
        torch.cuda.reset_peak_memory_stats()
        seen: list[float] = []
        end = time.monotonic() + _BUSY_S
        look = end - _BUSY_S / 2  # the driver averages over the last second
        while time.monotonic() < end:
            forward()
            if time.monotonic() >= look:
                seen += _read_utilisation()
                look += _BETWEEN_S
        used = {"memory_mb": torch.cuda.max_memory_allocated() / 1e6}
        if seen:
            used["utilisation"] = sum(seen) / len(seen)
        return replace(super().facts(features), gpu=used)

    def _forward(self, batch: Tensor) -> None:
        super()._forward(batch)
        torch.cuda.synchronize()


def _read_utilisation() -> tuple[float, ...]:
    """Share of the last second in which the GPU computed, in [0, 1]; empty if its library is missing or refuses."""
    try:
        return (torch.cuda.utilization() / 100,)
    except Exception:  # NVIDIA's library raises errors of its own
        return ()
