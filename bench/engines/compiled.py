"""The published network, compiled by PyTorch."""

import os

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # read when PyTorch is imported

import torch
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
        torch._inductor.config.freezing = True  # type: ignore[attr-defined]
        torch._inductor.config.compile_threads = job.threads  # type: ignore[attr-defined]
        self.network = _compile(self.network)
        self._forward(torch.zeros(1, job.length, self.bundle.manifest.channels))

    def _forward(self, batch: Tensor) -> None:
        with torch.no_grad():  # freezing does not know PyTorch's inference mode
            self.network(batch, self._token_ids)


def _compile(network: nn.Module) -> nn.Module:
    compiled: nn.Module = torch.compile(network, dynamic=False)
    return compiled
