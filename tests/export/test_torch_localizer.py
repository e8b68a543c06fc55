"""The deployed localizer in PyTorch against the plain network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stale_export.localizer_graph import cross_queries
from stale_export.parity import draw_features
from stale_export.torch_localizer import (
    TORCH_FILES,
    TorchLocalizer,
    count_integer_layers,
    pack_torch_localizer,
    quantized,
    read_torch_localizer,
    torch_runner,
)
from stale_model import TrainedStale
from stale_runtime.errors import BundleError, CheckpointError
from stale_runtime.localizer import EncodedPrompts
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
    logits, masks = torch_runner(TorchLocalizer.of(trained.network), prompts)(features[0].numpy())
    np.testing.assert_allclose(logits, expected.cas_logits[0].numpy(), rtol=0, atol=2e-4)
    np.testing.assert_allclose(masks, expected.action_masks[0].numpy(), rtol=0, atol=1e-5)


def test_in_int8_all_linear_layers_are_integers_and_close(trained: TrainedStale) -> None:
    localizer = TorchLocalizer.of(trained.network)
    assert count_integer_layers(localizer) == 0
    assert count_integer_layers(quantized(localizer)) == 4
    name = TORCH_FILES["torch-int8"]
    module = read_torch_localizer(pack_torch_localizer(localizer, int8=True), name)
    assert count_integer_layers(module) == 4
    prompts, features = encoded(trained, 3), draw_features(trained.network, 1, 32)[0].numpy()
    exact, rough = (torch_runner(part, prompts)(features) for part in (localizer, module))
    assert 0 < np.abs(exact[1] - rough[1]).mean() < 0.02


def test_a_file_gives_back_what_was_packed(trained: TrainedStale) -> None:
    localizer = TorchLocalizer.of(trained.network)
    name = TORCH_FILES["torch-fp32"]
    state = read_torch_localizer(pack_torch_localizer(localizer, int8=False), name).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in localizer.state_dict().items())


@pytest.mark.parametrize("content", [{}, {"sizes": {"channels": 3}, "int8": False, "state_dict": {}}, [1]])
def test_other_files_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(BundleError, match="not a localizer for PyTorch"):
        read_torch_localizer(path.read_bytes(), path.name)


def test_a_file_with_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.pth"
    torch.save({"sizes": tiny.make_network()}, path)
    with pytest.raises(CheckpointError, match="plain tensors"):
        read_torch_localizer(path.read_bytes(), path.name)
