"""What training costs the machine."""

import torch

from stale_runtime.system.peak_memory import peak_rss_mb


def peak_memory_mb(device: torch.device) -> float:
    """The most memory taken so far, in megabytes: on the GPU by tensors, on the CPU by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return peak_rss_mb()


def gpu_utilization(device: torch.device) -> float | None:
    """Percent of the last moments in which the GPU computed; None without a GPU, or where its library does not tell."""
    if device.type != "cuda":
        return None
    try:
        return float(torch.cuda.utilization(device))
    except Exception:  # NVIDIA's library is missing, or refuses with errors of its own
        return None
