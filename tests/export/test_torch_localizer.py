"""The deployed localizer in PyTorch against the plain network."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stale_export.localizer_graph import cross_queries
from stale_export.parity import draw_features
from stale_export.torch_localizer import (
    TORCH_FILES,
    TorchLocalizer,
    count_integer_layers,
    pack_torch_localizer,
    quantize_torch_localizer,
    read_torch_localizer,
    torch_runner,
)
from stale_model import TrainedStale
from stale_model.checkpoints.loading import plain_content
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.errors import BundleError, CheckpointError
from stale_runtime.inference.forward_pass import EncodedPrompts
from tests import tiny


def encoded(trained: TrainedStale, count: int) -> EncodedPrompts:
    embeddings = torch.randn(count, tiny.CHANNELS, generator=torch.Generator().manual_seed(1))
    queries = cross_queries(trained.network, embeddings)
    return EncodedPrompts(tuple(map(str, range(count))), embeddings.numpy(), queries.numpy())


@pytest.mark.parametrize("T", [16, 40, 101])
def test_it_computes_what_the_network_does(trained: TrainedStale, T: int) -> None:
    prompts = encoded(trained, 5)
    features = draw_features(trained.network, 1, T)
    with torch.no_grad():
        expected = trained.network.localize(
            features, trained.network.with_background(torch.from_numpy(prompts.embeddings))
        )
    logits, masks, _ = torch_runner(TorchLocalizer.of(trained.network), prompts)(features[0].numpy())
    np.testing.assert_allclose(logits, expected.cas_logits[0].numpy(), rtol=0, atol=2e-4)
    np.testing.assert_allclose(all_rows(masks), expected.action_masks[0].numpy(), rtol=0, atol=1e-5)


def test_in_int8_all_linear_layers_are_integers_and_close(trained: TrainedStale) -> None:
    localizer = TorchLocalizer.of(trained.network)
    assert count_integer_layers(localizer) == 0
    assert count_integer_layers(quantize_torch_localizer(localizer)) == 4
    name = TORCH_FILES["torch-int8"]
    module = read_torch_localizer(pack_torch_localizer(localizer, int8=True), name)
    assert count_integer_layers(module) == 4
    prompts, features = encoded(trained, 3), draw_features(trained.network, 1, 32)[0].numpy()
    exact, rough = (torch_runner(part, prompts)(features) for part in (localizer, module))
    assert 0 < np.abs(all_rows(exact.masks) - all_rows(rough.masks)).mean() < 0.02


def test_a_file_gives_back_what_was_packed(trained: TrainedStale) -> None:
    localizer = TorchLocalizer.of(trained.network)
    name = TORCH_FILES["torch-fp32"]
    state = read_torch_localizer(pack_torch_localizer(localizer, int8=False), name).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in localizer.state_dict().items())


def refused(content: object) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own quantized tensors use what it has deprecated
        torch.save(content, buffer)
    with pytest.raises(BundleError, match=r"^other\.pth: not a localizer for PyTorch; copy the bundle again, or ask "):
        read_torch_localizer(buffer.getvalue(), "other.pth")


SIZES = {"channels": 4, "heads": 1, "mask_channels": 1, "temporal_scale": 16}


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1],
        torch.zeros(3),
        {"sizes": {"channels": 3}, "int8": False, "state_dict": {}},
        {"sizes": [1], "int8": False, "state_dict": {}},
        {"sizes": SIZES, "int8": False, "state_dict": {1: 2}},
        {"sizes": SIZES, "int8": True, "state_dict": {1: 2}},
        {"sizes": SIZES, "int8": False, "state_dict": [1]},
        {"sizes": SIZES, "int8": torch.zeros(2), "state_dict": {}},
        *({"sizes": {**SIZES, "channels": size}, "int8": False, "state_dict": {}} for size in ("x", -4, 0, 4.0, 2**70)),
    ],
)
def test_other_files_are_refused(content: object) -> None:
    refused(content)


@pytest.mark.parametrize("int8", [False, True])
def test_sizes_that_the_weights_do_not_have_take_no_memory(
    trained: TrainedStale, int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = unpacked(TorchLocalizer.of(trained.network), int8=int8)
    made: list[torch.device] = []
    init = nn.Linear.__init__

    def note(self: nn.Linear, *arguments: Any, **options: Any) -> None:
        made.append(torch.get_default_device())
        init(self, *arguments, **options)

    monkeypatch.setattr(nn.Linear, "__init__", note)
    refused({**content, "sizes": {**content["sizes"], "channels": 20_000}})
    assert {device.type for device in made} == {"meta"}


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("background"),
        lambda state: state.update(more=torch.zeros(1)),
        lambda state: state.update(kernel=state["kernel"].double()),
        lambda state: state.update(kernel=state["kernel"][:, :1].contiguous()),
        lambda state: state.update(kernel=3),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    trained: TrainedStale, int8: bool, change: Callable[[dict[str, Any]], object]
) -> None:
    content = unpacked(TorchLocalizer.of(trained.network), int8=int8)
    change(content["state_dict"])
    refused(content)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden._packed_params._packed_params", None),
        ("hidden._packed_params._packed_params", (torch.zeros(8, 48), torch.zeros(8))),
        ("hidden._packed_params.dtype", "x"),
        ("hidden.scale", "x"),
        ("hidden.zero_point", [1]),
    ],
)
def test_int8_weights_that_are_none_are_refused(trained: TrainedStale, name: str, value: object) -> None:
    content = unpacked(TorchLocalizer.of(trained.network), int8=True)
    assert name in content["state_dict"]
    refused({**content, "state_dict": {**content["state_dict"], name: value}})


def unpacked(localizer: TorchLocalizer, *, int8: bool) -> dict[str, Any]:
    """The content of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content: dict[str, Any] = plain_content(
            io.BytesIO(pack_torch_localizer(localizer, int8=int8)), "good.pth", quantized=True
        )
    return {**content, "state_dict": dict(content["state_dict"])}


def test_a_file_with_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.pth"
    torch.save({"sizes": tiny.make_network()}, path)
    with pytest.raises(CheckpointError, match="plain tensors"):
        read_torch_localizer(path.read_bytes(), path.name)
