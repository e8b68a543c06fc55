"""The network as published, on a GPU."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from stale_bench.engines.engine import Facts, Step
from stale_bench.engines.published import Published
from stale_runtime.segments import FloatArray

_BUSY_S = 3.0
"""How long the GPU is kept busy to see how much of it is used."""
_BETWEEN_S = 0.1


class PublishedOnGpu(Published):
    """``upstream-fp32`` on the first GPU."""

    device = "cuda"

    def steps(self, features: FloatArray) -> Mapping[str, Step]:
        """The forward pass, features being there already."""
        return {"forward": super().steps(features)["forward"]}

    def facts(self, features: FloatArray) -> Facts:
        """Multiplications, and the GPU's memory and utilisation while one forward pass follows the other."""
        forward = self.steps(features)["forward"]
        torch.cuda.reset_peak_memory_stats()
        seen: list[int] = []
        end = look = time.monotonic() + _BUSY_S
        look -= _BUSY_S / 2  # the driver averages over the second before
        while time.monotonic() < end:
            forward()
            if time.monotonic() >= look:
                seen.append(torch.cuda.utilization())
                look += _BETWEEN_S
        used = {
            "memory_mb": torch.cuda.max_memory_allocated() / 1e6,
            "utilisation": sum(seen) / max(len(seen), 1) / 100,
        }
        return super().facts(features)._replace(gpu=used)

    def _forward(self, batch: Tensor) -> None:
        super()._forward(batch)
        torch.cuda.synchronize()
