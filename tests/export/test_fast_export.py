"""The approximate graph through the whole export, on the tiny network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from stale_export import Int8Options, export_bundle, exporter, fast_gate
from stale_model import TrainedStale
from stale_runtime import Localizer, Prompts
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import Manifest
from stale_runtime.errors import ExportError, QuantizationError
from stale_runtime.inference.backends import exact_backend
from stale_runtime.inference.bundle_check import self_test
from tests import tiny
from tests.export.approximation import draw_calm_videos
from tests.export.int8 import annotate, write_videos

Export = Callable[..., Manifest]
GRAPHS = ("ort-fp32", "ort-fast")


@pytest.fixture
def export(
    bundle: Path, trained: TrainedStale, text_model_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Export:
    """Exports the float and the approximate graph to ``tmp_path / "bundle"``, validated on calm videos."""
    monkeypatch.setattr(exporter, "text_encoder_model", lambda *_: onnx.load_from_string(text_model_bytes))
    monkeypatch.setattr(fast_gate, "MOST_RMS", 0.5)  # sixteen channels are rounded off more than real ones
    calm = [draw_calm_videos(8, tiny.LENGTH, seed=seed, deviation=0.05) for seed in range(2)]
    training, unseen = (
        {f"{name}{n}": video for n, video in enumerate(videos)} for name, videos in zip("ab", calm, strict=True)
    )
    prompts = Localizer.open(bundle).encode_prompts(tiny.CLASSES)
    annotations = annotate(tmp_path / "annotations.json", trained.network, prompts, unseen)
    given: dict[str, Any] = {
        "annotations": annotations,
        "validation_features": write_videos(tmp_path / "validation", unseen),
        "calibration": write_videos(tmp_path / "training", training),
        "max_map_drop": 50.0,
    }

    def run(
        *, say: Callable[[str], None] = lambda _: None, graphs: tuple[str, ...] = GRAPHS, **options: Any
    ) -> Manifest:
        int8 = Int8Options(**{**given, **options})
        return export_bundle(trained, Prompts.of(tiny.CLASSES), tmp_path / "bundle", int8=int8, graphs=graphs, say=say)

    return run


def test_a_validated_bundle_takes_it_by_default_and_passes_its_self_test(export: Export, tmp_path: Path) -> None:
    manifest = export()
    assert manifest.approximation is not None
    assert manifest.approximation.file == layout.LOCALIZER_FAST
    (record,) = manifest.quantization
    assert record.file == layout.LOCALIZER_FAST
    assert record.map_percent is not None
    assert record.map_change_low is not None
    assert manifest.reading_score is not None
    assert manifest.reading_score.file == layout.LOCALIZER_FAST
    localizer = Localizer.open(tmp_path / "bundle")
    assert (localizer.backend, exact_backend(manifest).name) == ("ort-fast", "ort-fp32")
    assert Manifest.from_bytes((tmp_path / "bundle" / "manifest.json").read_bytes()) == manifest
    checks = [check for check in self_test(Bundle(tmp_path / "bundle")) if check.what.startswith("ort-fast")]
    assert len(checks) == 5
    assert all(check.passed for check in checks)


def test_without_validation_it_is_there_but_not_the_default(export: Export, tmp_path: Path) -> None:
    export(annotations=None, validation_features=None)
    assert Localizer.open(tmp_path / "bundle").backend == "ort-fp32"
    assert Localizer.open(tmp_path / "bundle", backend="ort-fast").backend == "ort-fast"


def test_without_calibration_a_line_says_that_there_is_none(export: Export) -> None:
    said: list[str] = []
    with pytest.raises(ExportError, match=r"--graphs ort-fast: no --calibration: .*; give --calibration FOLDER"):
        export(calibration=None)
    manifest = export(calibration=None, graphs=exporter.ALL_GRAPHS, say=said.append)
    assert manifest.approximation is None
    assert layout.LOCALIZER_FAST not in manifest.files
    assert sum("no ort-fast" in line for line in said) == 1


def test_what_fails_is_left_out_unless_it_was_asked_for(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_gate, "MOST_RMS", 1e-6)
    said: list[str] = []
    with pytest.raises(QuantizationError, match="not written, because class activations are off by"):
        export()
    manifest = export(graphs=exporter.ALL_GRAPHS, say=said.append)
    assert manifest.approximation is None
    assert layout.LOCALIZER_FAST not in manifest.files
    assert sum("not written, because class activations are off by" in line for line in said) == 1
