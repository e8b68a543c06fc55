"""The card, its driver, and the versions of the libraries."""

import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch

from tests.gpu.gpu_report import Findings, Table
from tests.gpu.gpu_request import GpuRequest

PACKAGES = ("numpy", "transformers", "lightning-fabric", "pytorch-lightning", "onnxruntime")
_DRIVER_S = 20.0


def describe_card(request: GpuRequest) -> Findings:
    """Say what computes here.

    Raises:
        RuntimeError: there is no GPU.
    """
    machine = describe_machine(request.device)
    table = Table(headers=("what", "which"), formats=("", ""), rows=tuple(machine.items()))
    return Findings(text="What everything below was measured on.", table=table)


def describe_machine(device: str) -> Mapping[str, str]:
    """The card, driver, CUDA, Python and libraries.

    Raises:
        RuntimeError: there is no GPU.
    """
    machine = {"device": device}
    if device == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError("PyTorch finds no GPU here; run make gpu DEVICE=cpu")
        card = torch.cuda.get_device_properties(0)
        machine |= {
            "card": card.name,
            "memory": f"{card.total_memory / 2**30:.0f} GiB",
            "multiprocessors": str(card.multi_processor_count),
            "driver": _read_driver(),
            "CUDA": torch.version.cuda or "unknown",
        }
    machine |= {"Python": platform.python_version(), "PyTorch": torch.__version__}
    for package in PACKAGES:
        try:
            machine[package] = version(package)
        except PackageNotFoundError:
            continue
    return machine


def _read_driver() -> str:
    """The driver's version as ``nvidia-smi`` tells it."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return "unknown"
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DRIVER_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"
