"""The exported graphs in ONNX Runtime against recordings of the original, at full size."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from stale_runtime import Bundle, EncodedPrompts, Localizer, Settings, read_features
from stale_runtime.features import resample
from stale_runtime.sessions import open_session
from stale_runtime.text_encoder import TextEncoder
from tests.parity.recordings import FORWARD_NAMES, forward_recordings

pytestmark = pytest.mark.reference

LOGITS_LIMIT, MASKS_LIMIT = 2e-4, 1e-5
GRAPH = "localizer.fp32.onnx"


@pytest.mark.parametrize("name", FORWARD_NAMES)
def test_outputs_are_the_recorded_ones(reference: Path, reference_bundle: Path, name: str) -> None:
    embeddings = np.load(reference / "golden" / "text_all200.npz")["prompt_embeddings"]
    for recording in forward_recordings(reference, name):
        localizer = Localizer(Bundle(reference_bundle), Settings(length=recording.length))
        features = read_features(reference / "features" / f"{recording.video}.npy", 512)
        prompts = EncodedPrompts(tuple(map(str, recording.classes)), embeddings[recording.classes])
        outputs = localizer.outputs(features, prompts)
        assert np.abs(outputs.cas_logits - recording.outputs["cas_logits"]).max() <= LOGITS_LIMIT
        assert np.abs(outputs.action_masks - recording.outputs["action_masks"]).max() <= MASKS_LIMIT


def test_one_perturbed_weight_is_noticed(reference: Path, reference_bundle: Path) -> None:
    recording = next(forward_recordings(reference, "T100_unseen50"))
    embeddings = np.load(reference / "golden" / "text_all200.npz")["prompt_embeddings"][recording.classes]
    features = resample(read_features(reference / "features" / f"{recording.video}.npy", 512), 100)[None]
    model = onnx.load_from_string(Bundle(reference_bundle).read(GRAPH))
    noticed = []
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.size < 512:
            continue
        perturbed = weights.copy()
        largest = np.unravel_index(np.abs(weights).argmax(), weights.shape)
        perturbed[largest] += 0.5
        saved = onnx.TensorProto()
        saved.CopyFrom(tensor)
        tensor.CopyFrom(numpy_helper.from_array(perturbed, tensor.name))
        session = open_session(model.SerializeToString(), name=GRAPH, threads=1)
        cas_logits, masks = session.run(["cas_logits", "action_masks"], {"features": features, "prompts": embeddings})
        within = (
            np.abs(cas_logits[0] - recording.outputs["cas_logits"]).max() <= LOGITS_LIMIT
            and np.abs(masks[0] - recording.outputs["action_masks"]).max() <= MASKS_LIMIT
        )
        noticed.append((tensor.name, not within))
        tensor.CopyFrom(saved)
    assert len(noticed) >= 8
    assert all(seen for _, seen in noticed), noticed


def test_text_encoder_embeds_as_recorded(reference: Path, reference_bundle: Path) -> None:
    names = (reference / "classes.txt").read_text().splitlines()
    embedded = TextEncoder(Bundle(reference_bundle)).encode([f"a video of action {name}" for name in names])
    recorded = np.load(reference / "golden" / "text_all200.npz")["prompt_embeddings"]
    assert np.abs(embedded - recorded).max() < 1e-5
