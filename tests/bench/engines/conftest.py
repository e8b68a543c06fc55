from collections.abc import Iterator

import pytest
import torch
from transformers import CLIPTextConfig

from stale_bench.engines import published


def _patch(patch: pytest.MonkeyPatch) -> None:
    def small(channels: int, end_token: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=100, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            projection_dim=channels, bos_token_id=end_token, eos_token_id=end_token, pad_token_id=end_token,
        )  # fmt: skip

    patch.setattr(published, "vit_b_32", small)
    patch.setattr(torch, "set_num_interop_threads", lambda _threads: None)  # possible once a process


@pytest.fixture
def small_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text tower of one layer."""
    _patch(monkeypatch)


@pytest.fixture(scope="module")
def small_tower_in_module() -> Iterator[None]:
    """A text tower of one layer, in all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        _patch(patch)
        yield
