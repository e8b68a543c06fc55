from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from stale_model import read_original_checkpoint
from stale_model.checkpoints.own_checkpoint import StaleWithText
from stale_model.data.dataset import VideoSample
from stale_model.training import validation
from stale_model.training.training_loop import tokenize
from stale_runtime.decoding.decoders import NEUTRAL
from stale_runtime.detections import Detection
from stale_runtime.evaluation.activitynet import CLASSES
from stale_runtime.evaluation.ground_truth import Annotation, GroundTruth
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from tests import tiny


@pytest.mark.parametrize(("names", "reported"), [((*CLASSES, NEUTRAL), False), ((CLASSES[0], NEUTRAL), True)])
def test_neutral_is_reported_only_outside_the_closed_set(
    checkpoint: Path,
    clip_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: Sequence[str],
    reported: bool,
) -> None:
    found: dict[str, Sequence[Detection]] = {}

    def keep(detections: Mapping[str, Sequence[Detection]], truth: GroundTruth) -> object:
        found.update(detections)
        return mean_average_precision(detections, truth)

    monkeypatch.setattr(validation, "mean_average_precision", keep)
    trained = read_original_checkpoint(checkpoint, str(clip_folder))
    model = StaleWithText(trained.network, trained.tower)
    cas_logits = torch.zeros(1, len(names) + 1, tiny.LENGTH)
    cas_logits[:, [0, names.index(NEUTRAL)], 4:12] = torch.tensor([8.0, 9.0])[None, :, None]
    masks = torch.zeros(1, tiny.LENGTH, tiny.LENGTH)
    masks[:, 4:12, 4:12] = 1
    monkeypatch.setattr(model.network, "localize", lambda *_: (cas_logits, masks))
    np.save(tmp_path / "v_a.npy", np.ones((30, tiny.CHANNELS), np.float32))
    sample = VideoSample("a", tmp_path / "v_a.npy", 60.0, (Annotation(names[0], 15.0, 45.0),))
    validation.validate(model, [sample], names, tokenize(trained.clip, names), tiny.LENGTH)
    labels = {row.label for rows in found.values() for row in rows}
    assert names[0] in labels
    assert (NEUTRAL in labels) is reported
