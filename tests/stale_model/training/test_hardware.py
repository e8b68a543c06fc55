import pytest
import torch
from lightning_fabric.strategies.ddp import DDPStrategy

from stale_model.training.hardware import gpu_utilization, make_fabric, peak_memory_mb


def test_memory_of_the_process_covers_what_it_took() -> None:
    before = peak_memory_mb(torch.device("cpu"))
    block = torch.ones(100_000_000)  # 400 MB
    assert peak_memory_mb(torch.device("cpu")) >= max(before, 400)
    del block


def test_without_a_gpu_there_is_no_utilization() -> None:
    assert gpu_utilization(torch.device("cpu")) is None


def test_a_gpu_tells_its_memory_and_utilization(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "utilization", lambda _device: 83)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 2_500_000_000)
    assert gpu_utilization(torch.device("cuda")) == 83
    assert peak_memory_mb(torch.device("cuda")) == 2500


def test_a_gpu_whose_library_refuses_trains_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_device: torch.device) -> int:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    assert gpu_utilization(torch.device("cuda")) is None


def test_one_process_of_torchrun_is_distributed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not isinstance(make_fabric("cpu", "32").strategy, DDPStrategy)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert isinstance(make_fabric("cpu", "32").strategy, DDPStrategy)
