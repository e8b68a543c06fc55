"""The exported graphs in ONNX Runtime against recordings of the original, at full size."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from stale_export.localizer_graph import cross_queries
from stale_model import Stale, TrainedStale, read_original_checkpoint
from stale_runtime import Bundle, EncodedPrompts, Localizer, Settings, read_features
from stale_runtime.bundle.layout import LOCALIZER_OUTPUTS
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.decoding.action_masks import all_rows
from stale_runtime.inference.forward_pass import read_outputs
from stale_runtime.inference.text_encoder import TextEncoder
from tests.parity.recordings import FORWARD_NAMES, forward_recordings

pytestmark = pytest.mark.reference

LOGITS_LIMIT, MASKS_LIMIT = 2e-4, 1e-5
GRAPH = "localizer.fp32.onnx"


@pytest.fixture(scope="module")
def trained(reference: Path) -> TrainedStale:
    return read_original_checkpoint(reference / "best.pth", str(reference / "clip"))


def encode_recorded(embeddings: NDArray[np.float32], network: Stale) -> EncodedPrompts:
    """Recorded embeddings, with queries computed from them, since the original has none that could be recorded."""
    queries = cross_queries(network, torch.from_numpy(embeddings)).numpy()
    return EncodedPrompts(tuple(map(str, range(len(embeddings)))), embeddings, queries)


@pytest.mark.parametrize("name", FORWARD_NAMES)
def test_outputs_are_the_recorded_ones(
    reference: Path, reference_bundle: Path, trained: TrainedStale, name: str
) -> None:
    embeddings = np.load(reference / "golden" / "text_all200.npz")["prompt_embeddings"]
    for recording in forward_recordings(reference, name):
        localizer = Localizer(Bundle(reference_bundle), Settings(length=recording.length))
        features = read_features(reference / "features" / f"{recording.video}.npy", 512)
        prompts = encode_recorded(embeddings[recording.classes], trained.network)
        outputs = localizer.outputs(features, prompts)
        assert np.abs(outputs.cas_logits - recording.outputs["cas_logits"]).max() <= LOGITS_LIMIT
        assert np.abs(all_rows(outputs.masks) - recording.outputs["action_masks"]).max() <= MASKS_LIMIT


def test_one_perturbed_weight_is_noticed(reference: Path, reference_bundle: Path, trained: TrainedStale) -> None:
    recording = next(forward_recordings(reference, "T100_unseen50"))
    embeddings = np.load(reference / "golden" / "text_all200.npz")["prompt_embeddings"][recording.classes]
    prompts = encode_recorded(embeddings, trained.network)
    localizer = Localizer(Bundle(reference_bundle), Settings(length=100))
    features = read_features(reference / "features" / f"{recording.video}.npy", 512)
    inputs = localizer.graph_inputs(localizer.prepare(features, prompts))
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
        found = dict(zip(LOCALIZER_OUTPUTS, session.run(LOCALIZER_OUTPUTS, inputs), strict=True))
        cas_logits, masks, _ = read_outputs(found)[0]
        within = (
            np.abs(cas_logits - recording.outputs["cas_logits"]).max() <= LOGITS_LIMIT
            and np.abs(all_rows(masks) - recording.outputs["action_masks"]).max() <= MASKS_LIMIT
        )
        noticed.append((tensor.name, not within))
        tensor.CopyFrom(saved)
    assert len(noticed) >= 8
    assert all(seen for _, seen in noticed), noticed


def test_text_encoder_embeds_as_recorded(reference: Path, reference_bundle: Path) -> None:
    names = (reference / "classes.txt").read_text().splitlines()
    encoded = TextEncoder(Bundle(reference_bundle)).encode(names)
    recorded = np.load(reference / "golden" / "text_all200.npz")["prompt_embeddings"]
    assert np.abs(encoded.embeddings - recorded).max() < 1e-5


def test_names_that_the_bundle_does_not_know_give_the_recorded_outputs(
    reference: Path, reference_bundle: Path, tmp_path: Path
) -> None:
    """This takes text encoder, queries, cache and localizer."""
    names = (reference / "classes.txt").read_text().splitlines()
    localizer = Localizer(Bundle(reference_bundle), Settings(length=100, cache_folder=tmp_path / "cache"))
    recording = next(forward_recordings(reference, "T100_all200"))
    features = read_features(reference / "features" / f"{recording.video}.npy", 512)
    upper = [f"{name} ".upper() for name in names]  # equal for CLIP, but unknown to the bundle as a text
    for _ in range(2):
        outputs = localizer.outputs(features, localizer.encode_prompts(upper))
        assert np.abs(outputs.cas_logits - recording.outputs["cas_logits"]).max() <= LOGITS_LIMIT
        assert np.abs(all_rows(outputs.masks) - recording.outputs["action_masks"]).max() <= MASKS_LIMIT
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == len(names)
