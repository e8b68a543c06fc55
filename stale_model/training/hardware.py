"""The device that trains, and how much of it a training uses."""

import os

import torch
from lightning_fabric import Fabric

from stale_runtime.errors import BackendError
from stale_runtime.system.peak_memory import peak_rss_mb

_FABRIC_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def make_fabric(device: str, precision: str) -> Fabric:
    """Choose device, precision and processes; ``torchrun`` gives their number in environment variables.

    Under ``torchrun`` one process, too, is wrapped in DistributedDataParallel.

    Args:
        device: one of ``train_request.DEVICES``.
        precision: one of ``train_request.PRECISIONS``.

    Raises:
        BackendError: there is no GPU, or the CPU does not compute in that precision.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError("--device cuda: PyTorch finds no GPU here; give --device cpu")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if precision == "16" and not on_gpu:
        raise BackendError("--precision 16: only a GPU computes in it; give bf16 or 32")
    if precision == "auto":
        precision = ("bf16" if torch.cuda.is_bf16_supported() else "16") if on_gpu else "32"
    processes, all_processes = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    return Fabric(
        accelerator="cuda" if on_gpu else "cpu",
        devices=processes,
        num_nodes=all_processes // processes,
        strategy="ddp" if "WORLD_SIZE" in os.environ else "auto",
        precision=_FABRIC_PRECISIONS[precision],  # type: ignore[arg-type]
    )


def is_lost_process(problem: RuntimeError) -> bool:
    """Whether an error says that another process of ``torchrun`` cannot be reached, as when it has ended.

    Gloo, which connects processes on CPUs, raises errors that only their text tells from others.
    """
    return isinstance(problem, torch.distributed.DistError) or "/gloo/" in str(problem)


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far, in megabytes: of tensors on a GPU, of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return peak_rss_mb()


def gpu_utilization(device: torch.device) -> float | None:
    """Percent of the last moments in which the GPU computed; None without a GPU, or if its library cannot tell."""
    if device.type != "cuda":
        return None
    try:
        return float(torch.cuda.utilization(device))
    except Exception:  # NVIDIA's library is missing, or raises errors of its own
        return None
