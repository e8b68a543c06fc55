from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime import Localizer
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.layout import FULL_MASK_OUTPUTS as OLDER
from stale_runtime.bundle.layout import LOCALIZER_FP32 as FILE
from stale_runtime.bundle.layout import LOCALIZER_OUTPUTS
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec
from stale_runtime.decoding.action_masks import FullMasks, all_rows
from stale_runtime.errors import BundleError, OutOfMemoryError, PromptError
from stale_runtime.inference import forward_pass
from stale_runtime.inference.forward_pass import ForwardPass
from stale_runtime.inference.stream import BATCH
from stale_runtime.inputs.features import resample
from stale_runtime.system.memory import detection_bytes
from tests import tiny
from tests.runtime.helpers import altered


@pytest.fixture(scope="module")
def localizer(bundle: Path) -> Localizer:
    return Localizer.open(bundle)


@pytest.mark.parametrize("count", [1, 3, BATCH])
def test_windows_together_give_what_each_alone_gives(localizer: Localizer, count: int) -> None:
    prompts = localizer.encode_prompts(tiny.CLASSES)
    windows: NDArray[np.float32] = np.random.default_rng(0).standard_normal((count, 40, tiny.CHANNELS), np.float32)
    batch = np.stack([resample(window, tiny.LENGTH) for window in windows])
    found = localizer._network.run_windows(batch, prompts)
    assert len(found) == count
    for (cas_logits, masks, _), window in zip(found, windows, strict=True):
        alone = localizer.outputs(window, prompts)
        np.testing.assert_allclose(cas_logits, alone.cas_logits, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(masks.kept, alone.masks.kept)
        np.testing.assert_allclose(masks.kept_mask, alone.masks.kept_mask, rtol=0, atol=1e-5)


def test_prompts_of_another_bundle_are_refused_for_windows_too(localizer: Localizer) -> None:
    prompts = localizer.encode_prompts(tiny.CLASSES)
    wrong = prompts._replace(queries=prompts.queries[:, :-1])
    with pytest.raises(PromptError, match="encoded prompts of shapes"):
        localizer._network.run_windows(np.zeros((2, 16, tiny.CHANNELS), np.float32), wrong)


class Recorded:
    """A session that gives what it is told to, and notes what it was asked for."""

    def __init__(self, outputs: Mapping[str, NDArray[np.float32]]) -> None:
        self._outputs = outputs
        self.asked: tuple[Sequence[str], Mapping[str, NDArray[Any]]] = ((), {})

    def run(
        self, output_names: Sequence[str], inputs: Mapping[str, NDArray[Any]], _: Any = None, /
    ) -> list[NDArray[np.float32]]:
        self.asked = output_names, inputs
        return [self._outputs[name] for name in output_names]


def with_interface(bundle: Path, copy: Path, inputs: Sequence[TensorSpec], outputs: Sequence[str]) -> Bundle:
    """A bundle whose manifest says that the float graph has these inputs and outputs."""
    results = tuple(TensorSpec(name=name, dtype="float32", shape=("B",)) for name in outputs)
    graphs = dict(Bundle(bundle).manifest.graphs) | {FILE: GraphSpec(inputs=tuple(inputs), outputs=results)}
    return Bundle(altered(bundle, copy, graphs=graphs))


def test_a_graph_of_an_older_format_gets_its_four_inputs_and_gives_all_masks(bundle: Path, tmp_path: Path) -> None:
    K, T, dice = len(tiny.CLASSES), 24, np.random.default_rng(0)
    cas_logits = dice.standard_normal((1, K + 1, T), np.float32)
    action_masks = dice.random((1, T, T), np.float32)
    older = with_interface(bundle, tmp_path / "older", Bundle(bundle).manifest.graph(FILE).inputs[:4], OLDER)
    session = Recorded({"cas_logits": cas_logits, "action_masks": action_masks})
    network = ForwardPass(older, session, FILE)
    prompts = Localizer.open(bundle).encode_prompts(tiny.CLASSES)
    found = network.run(network.prepare(np.ones((40, tiny.CHANNELS), np.float32), T, prompts), rows=False)
    assert session.asked[0] == list(OLDER)
    assert tuple(session.asked[1]) == ("features", "length", "prompts", "queries")
    np.testing.assert_array_equal(found.cas_logits, cas_logits[0])
    np.testing.assert_array_equal(all_rows(found.masks), action_masks[0])
    means = action_masks[0].mean(axis=1)
    np.testing.assert_array_equal(found.masks.kept, means >= means.mean())
    np.testing.assert_allclose(found.masks.kept_mask, action_masks[0][found.masks.kept].mean(axis=0), rtol=1e-6)


def test_logits_of_masks_are_fetched_only_if_somebody_reads_rows(localizer: Localizer) -> None:
    prompts = localizer.encode_prompts(tiny.CLASSES)
    call = localizer.prepare(np.ones((40, tiny.CHANNELS), np.float32), prompts)
    masks = localizer._network.run(call, rows=False).masks
    with pytest.raises(ValueError, match="logits were not asked for"):
        masks.rows(np.array([0]))
    whole = localizer._network.run(call).masks
    np.testing.assert_array_equal(masks.kept_mask, whole.kept_mask)
    np.testing.assert_allclose(FullMasks(all_rows(whole)).kept_mask, whole.kept_mask, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(slice(0, 1), LOCALIZER_OUTPUTS), (slice(0, 6), ("cas_logits",)), (slice(0, 6), ("cas_logits", "kept"))],
)
def test_a_graph_with_another_interface_is_no_localizer(
    bundle: Path, tmp_path: Path, inputs: slice, outputs: Sequence[str]
) -> None:
    other = with_interface(bundle, tmp_path / "other", Bundle(bundle).manifest.graph(FILE).inputs[inputs], outputs)
    with pytest.raises(BundleError, match=r"^localizer\.fp32\.onnx: a graph from features.* which is no localizer"):
        ForwardPass(other, Recorded({}), FILE)


@pytest.mark.parametrize("shape", [("P",), ("P", "T0"), ("P", 8), ("P", 5000)])
def test_trained_rows_that_no_network_has_are_refused(
    bundle: Path, tmp_path: Path, shape: tuple[int | str, ...]
) -> None:
    *others, rows, lift = Bundle(bundle).manifest.graph(FILE).inputs
    inputs = (*others, replace(rows, shape=shape), lift)
    with pytest.raises(BundleError, match=r"mask_rows has shape .*, expected \(P, T0\)"):
        ForwardPass(with_interface(bundle, tmp_path / "x", inputs, LOCALIZER_OUTPUTS), Recorded({}), FILE)


def test_a_graph_that_keeps_nothing_is_a_bad_bundle(bundle: Path, localizer: Localizer) -> None:
    K, T = len(tiny.CLASSES), tiny.LENGTH
    nothing = {"cas_logits": np.zeros((1, K + 1, T)), "kept": np.zeros((1, T)), "kept_mask": np.zeros((1, T))}
    session = Recorded({name: output.astype(np.float32) for name, output in nothing.items()})
    call = localizer.prepare(np.ones((40, tiny.CHANNELS), np.float32), localizer.encode_prompts(tiny.CLASSES))
    with pytest.raises(BundleError, match="keeps no snippet of a video, expected at least one"):
        ForwardPass(Bundle(bundle), session, FILE).run(call, rows=False)


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
