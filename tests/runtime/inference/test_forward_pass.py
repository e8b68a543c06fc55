from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime import Localizer
from stale_runtime.errors import OutOfMemoryError, PromptError
from stale_runtime.inference import forward_pass
from stale_runtime.inference.stream import BATCH
from stale_runtime.inputs.features import resample
from stale_runtime.system.memory import detection_bytes
from tests import tiny


@pytest.fixture(scope="module")
def localizer(bundle: Path) -> Localizer:
    return Localizer.open(bundle)


@pytest.mark.parametrize("count", [1, 3, BATCH])
def test_windows_together_give_what_each_alone_gives(localizer: Localizer, count: int) -> None:
    prompts = localizer.encode_prompts(tiny.CLASSES)
    windows: NDArray[np.float32] = np.random.default_rng(0).standard_normal((count, 40, tiny.CHANNELS), np.float32)
    batch = np.stack([resample(window, tiny.LENGTH) for window in windows])
    found = list(localizer._network.run_windows(batch, prompts))
    assert len(found) == count
    for (cas_logits, masks), window in zip(found, windows, strict=True):
        alone = localizer.outputs(window, prompts)
        np.testing.assert_allclose(cas_logits, alone.cas_logits, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(masks.kept, alone.masks.kept)
        np.testing.assert_allclose(masks.kept_mask, alone.masks.kept_mask, rtol=0, atol=1e-5)


def test_prompts_of_another_bundle_are_refused_for_windows_too(localizer: Localizer) -> None:
    prompts = localizer.encode_prompts(tiny.CLASSES)
    wrong = prompts._replace(queries=prompts.queries[:, :-1])
    with pytest.raises(PromptError, match="encoded prompts of shapes"):
        localizer._network.run_windows(np.zeros((2, 16, tiny.CHANNELS), np.float32), wrong)


def test_memory_is_checked_for_all_windows_of_a_batch(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refuse(needed: int, what: str, remedy: str) -> None:
        asked.append(needed)
        raise OutOfMemoryError(f"{what}: too much; {remedy}")

    monkeypatch.setattr(forward_pass, "require_memory", refuse)
    features = np.ones((100, tiny.CHANNELS), np.float32)
    expected = []
    for window, length, windows in (("off", 16, 1), ("auto", 32, BATCH), (64, 32, BATCH)):  # 2T for scenes
        localizer = Localizer.open(bundle, window=window)  # type: ignore[arg-type]
        with pytest.raises(OutOfMemoryError, match=f"^T={length} with 3 prompts: too much; take a smaller --length or"):
            localizer.detect(features, tiny.CLASSES)
        expected.append(detection_bytes(length=length, rows=length, classes=3, channels=tiny.CHANNELS, windows=windows))
    assert asked == expected
    assert expected[0] < expected[1]
    with pytest.raises(OutOfMemoryError):
        Localizer.open(bundle).stream(tiny.CLASSES)
