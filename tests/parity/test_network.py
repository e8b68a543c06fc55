"""The PyTorch network and the text tower against recordings of the original, at full size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stale_model import TrainedStale, TrainingOutputs, read_original_checkpoint
from stale_model.checkpoints.clip import text_encoder_spec
from stale_runtime.inference.text_encoder import Tokenizer
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.features import resample
from tests.parity.recordings import FORWARD_NAMES, ForwardRecording, forward_recordings

pytestmark = pytest.mark.reference

LIMITS = {"cas_logits": 2e-4, "action_masks": 1e-5, "foreground_mask": 1e-5, "video_logits": 2e-4}


@pytest.fixture(scope="module")
def trained(reference: Path) -> TrainedStale:
    return read_original_checkpoint(reference / "best.pth", str(reference / "clip"))


@pytest.fixture(scope="module")
def embeddings(reference: Path) -> NDArray[np.float32]:
    return np.asarray(np.load(reference / "golden" / "text_all200.npz")["prompt_embeddings"])


def forward(
    trained: TrainedStale, recording: ForwardRecording, prompts: torch.Tensor, reference: Path
) -> TrainingOutputs:
    features = read_features(reference / "features" / f"{recording.video}.npy", 512)
    with torch.no_grad():
        outputs: TrainingOutputs = trained.network(
            torch.from_numpy(resample(features, recording.length))[None], trained.network.with_background(prompts)
        )
    return outputs


def deviations(outputs: TrainingOutputs, recording: ForwardRecording) -> dict[str, float]:
    return {name: float(np.abs(getattr(outputs, name)[0].numpy() - recording.outputs[name]).max()) for name in LIMITS}


@pytest.mark.parametrize("name", FORWARD_NAMES)
def test_every_output_is_the_recorded_one(
    trained: TrainedStale, embeddings: NDArray[np.float32], reference: Path, name: str
) -> None:
    for recording in forward_recordings(reference, name):
        prompts = torch.from_numpy(embeddings[recording.classes])
        found = deviations(forward(trained, recording, prompts, reference), recording)
        assert all(found[output] <= LIMITS[output] for output in LIMITS), (recording.video, found)


def test_text_tower_embeds_as_recorded(trained: TrainedStale, reference: Path) -> None:
    recorded = np.load(reference / "golden" / "text_all200.npz")
    with torch.no_grad():
        embedded = trained.tower(torch.from_numpy(recorded["input_ids"])).numpy()
    assert np.abs(embedded - recorded["prompt_embeddings"]).max() < 1e-5
    assert np.array_equal(trained.network.background_embedding.detach().numpy(), recorded["background_embedding"])


def test_tokenizer_gives_the_recorded_ids(trained: TrainedStale, reference: Path) -> None:
    recorded = json.loads((reference / "golden" / "token_ids.json").read_text())
    spec = text_encoder_spec(trained.clip)
    assert (spec.context_length, spec.pad_token, spec.prompt_template) == (77, 49407, "a video of action {}")
    tokenizer = Tokenizer(trained.clip.tokenizer_json, spec)
    for text, ids in recorded.items():
        assert tokenizer([f"a video of action {text}"]).tolist() == [ids], text
        assert [*spec.prefix, *tokenizer.suffixes([text])[0]] == ids, text
