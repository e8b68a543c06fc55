"""The published network, compiled by PyTorch."""

from typing import Any, cast

import torch
import torch._inductor.config
from torch import Tensor, nn

from stale_bench.engines.published import Published
from stale_bench.protocol import BackendJob


class PublishedCompiled(Published):
    """``compiled-fp32``: ``torch.compile``, which writes C++ and needs a compiler for it.

    The stage ``load`` is drawing the weights and compiling, which happens in the first forward pass. Each process
    compiles for itself: what earlier ones have compiled is not read, as on a machine that has just started. All sizes
    are fixed, and weights are constants (``freezing``), as PyTorch advises for inference; this makes the network
    faster here.
    """

    loads = True

    def __init__(self, job: BackendJob) -> None:
        super().__init__(job)
        config: Any = torch._inductor.config
        config.force_disable_caches = config.freezing = True
        config.compile_threads = job.threads
        self.network = cast(nn.Module, torch.compile(self.network, dynamic=False))
        self._forward(torch.zeros(1, job.length, self.bundle.manifest.channels))

    def _forward(self, batch: Tensor) -> None:
        with torch.no_grad():  # freezing does not know PyTorch's inference mode
            self.network(batch, self._token_ids)
