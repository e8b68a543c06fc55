from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from stale_export import fast_gate
from stale_export.calibration import Calibration
from stale_export.fast_gate import DIRECTIONS, GUARD_SHARE, FastGate
from stale_export.fast_localizer import GUARD_ROWS
from stale_export.graph_builder import GraphBuilder, serialize
from stale_export.localizer_graph import localizer_model
from stale_export.say import Say
from stale_export.validation_gate import MapGate, read_validation
from stale_model import Stale
from stale_runtime.bundle import layout
from stale_runtime.errors import QuantizationError
from tests import tiny
from tests.export.approximation import NORM, draw_calm_videos, encode, sharpened
from tests.export.int8 import annotate, write_videos

T = tiny.LENGTH


def make_gate(network: Stale, say: Say = lambda _: None, **changes: object) -> FastGate:
    """A gate with calm videos, in which attention is nearly uniform."""
    videos = {f"video{n}": video for n, video in enumerate(draw_calm_videos(10, T, deviation=0.05))}
    exact = serialize(localizer_model(network))
    gate = FastGate(
        network=network,
        calibration=Calibration(features=videos, seed=7),
        prompts=encode(network),
        exact=exact,
        guarding=exact,
        weight_bits=8,
        target="vnni",
        say=say,
    )
    return replace(gate, **changes)  # type: ignore[arg-type]


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny network's eight hidden masks and sixteen channels are rounded off more than real ones."""
    monkeypatch.setattr(fast_gate, "MOST_RMS", 0.5)


@pytest.mark.usefixtures("lenient")
def test_a_network_with_nearly_uniform_attention_passes_without_any_direction() -> None:
    said: list[str] = []
    made = make_gate(tiny.make_network(), said.append).make()
    approximation, record = made.approximation, made.record
    assert approximation.directions == 0
    assert approximation.guard_rows == GUARD_ROWS
    assert approximation.guard_limit == pytest.approx(GUARD_SHARE * NORM, rel=1e-4)
    assert [found.length for found in approximation.lengths] == [T, 2 * T, 800]
    for found in approximation.lengths:
        assert 0 < found.logits_rms_median <= found.logits_rms_worst < 1
        assert found.guarded_share == 0
    assert (record.file, record.kind, record.calibration_seed) == (layout.LOCALIZER_FAST, "static", 7)
    assert record.integer_operators_found == record.integer_operators_expected == 3 + 2 * tiny.CONFIG.heads
    assert record.map_percent is None
    assert "0 directions" in said[0]


@pytest.mark.usefixtures("lenient")
def test_as_few_directions_are_taken_as_suffice() -> None:
    gate = make_gate(sharpened(80.0))
    with pytest.raises(QuantizationError):  # landmarks alone do not suffice
        gate._make(gate._directions.expansion(0))
    made = gate.make()
    assert made.approximation.directions in DIRECTIONS[1:]


def test_a_network_with_sharp_attention_is_refused_with_the_reason() -> None:
    with pytest.raises(QuantizationError, match=r"not written, because the guard finds attention more than 0\.50 off"):
        make_gate(sharpened(300.0)).make()


def test_a_network_whose_activations_are_too_far_off_is_refused_with_the_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast_gate, "MOST_RMS", 1e-6)
    with pytest.raises(QuantizationError, match=r"off by 0\.\d+ .* with 16 directions at T=16, expected at most 1e-06"):
        make_gate(tiny.make_network()).make()


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("layer", ["embedding.output", "masks.hidden", "adaptation.output"])
def test_a_wrong_weight_fails(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = GraphBuilder.weight

    def weight(self: GraphBuilder, name: str, values: np.ndarray) -> str:
        return honest(self, name, values * np.float32(-1) if name == f"{layer}.scale" else values)

    gate = make_gate(tiny.make_network())
    gate.make()
    monkeypatch.setattr(GraphBuilder, "weight", weight)
    with pytest.raises(QuantizationError, match="not written"):
        make_gate(tiny.make_network()).make()


def make_map_gate(folder: Path, network: Stale, *, max_drop: float) -> MapGate:
    """Validation on calm videos whose annotations are what the float graph finds."""
    videos = {f"unseen{n}": video for n, video in enumerate(draw_calm_videos(6, T, seed=3, deviation=0.05))}
    annotations = annotate(folder / "annotations.json", network, encode(network), videos)
    read = partial(read_validation, subset="validation", channels=tiny.CHANNELS, length=T)
    validation = read(annotations, write_videos(folder / "validation", videos))
    return MapGate(videos=validation, prompts=encode(network), max_drop=max_drop)


@pytest.mark.usefixtures("lenient")
def test_map_is_measured_with_the_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny.make_network()
    gate = make_gate(network, gate=make_map_gate(tmp_path, network, max_drop=90))
    made = gate.make()
    assert made.found is not None
    assert made.record.map_percent is not None
    assert made.record.fp32_map_percent is not None
    assert made.record.validation_videos == 6
    monkeypatch.setattr(fast_gate, "MOST_GUARDED", 1.0)
    monkeypatch.setattr(fast_gate, "GUARD_SHARE", 0.0)  # everything is left to the exact graph
    monkeypatch.setattr(fast_gate, "_rms", lambda *_: 0.0)
    guarded = gate._find(made.model)
    assert guarded is not None
    assert gate.gate is not None
    assert gate.gate.score(guarded) == made.record.fp32_map_percent


@pytest.mark.usefixtures("lenient")
def test_too_large_a_drop_of_map_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny.make_network()
    gate = make_gate(network, gate=make_map_gate(tmp_path, network, max_drop=1.0))
    monkeypatch.setattr(FastGate, "_find", lambda *_: {})
    with pytest.raises(QuantizationError, match=r"mAP is 0\.00 against \d+\.\d\d in float with 16 directions"):
        gate.make()
