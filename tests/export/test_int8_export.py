"""The int8 graphs through the whole export, on the tiny network."""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from stale_export import Int8Options, export_bundle, exporter, quantization, torch_quantization
from stale_export.graph_choice import GRAPH_FILES
from stale_export.localizer_graph import LAYERS
from stale_export.torch_localizer import TorchLocalizer, quantize_torch_localizer
from stale_model import TrainedStale
from stale_model.checkpoints.own_checkpoint import TrainedFeatures
from stale_runtime import Localizer, Prompts
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import Manifest
from stale_runtime.errors import DatasetError, ExportError, QuantizationError
from stale_runtime.inference.bundle_check import self_test
from stale_runtime.inference.settings import Settings
from stale_runtime.inputs.recipe import clip_recipe
from tests import tiny
from tests.export.int8 import draw_videos, ruin, write_validation, write_videos
from tests.runtime.inputs.drawn import draw_statistics

Export = Callable[..., Manifest]


@pytest.fixture
def export(
    bundle: Path, trained: TrainedStale, text_model_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Export:
    """Exports to ``tmp_path / "out" / "bundle"``, validated, with a text encoder that is already traced."""
    monkeypatch.setattr(exporter, "text_encoder_model", lambda *_: onnx.load_from_string(text_model_bytes))
    (tmp_path / "out").mkdir()
    prompts = Localizer.open(bundle).encode_prompts(tiny.CLASSES)
    annotations, features = write_validation(tmp_path, trained.network, prompts)

    def run(of: TrainedStale = trained, say: Callable[[str], None] = lambda _: None, **options: Any) -> Manifest:
        parts = {name: options.pop(name) for name in ("graphs", "vision") if name in options}
        given = {"annotations": annotations, "validation_features": features, "max_map_drop": 5.0}
        int8 = Int8Options(**{**given, **options})
        output = tmp_path / "out" / "bundle"
        return export_bundle(of, Prompts.of(tiny.CLASSES), output, int8=int8, say=say, **parts)

    return run


def test_a_validated_export_says_so(export: Export, tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "training", draw_videos(12, seed=1))
    manifest = export(calibration=folder, calibration_videos=7, calibration_seed=5)
    static_record, dynamic_record = manifest.quantization[:2]
    assert (static_record.file, static_record.kind) == ("localizer.int8.onnx", "static")
    assert (dynamic_record.file, dynamic_record.kind) == ("localizer.int8-dynamic.onnx", "dynamic")
    assert static_record.calibration_seed == 5
    assert len(static_record.calibration_videos) == 7
    assert set(static_record.calibration_videos) < draw_videos(12).keys()
    for record in (static_record, dynamic_record):
        assert record.map_percent is not None
        assert record.fp32_map_percent is not None
        assert record.fp32_map_percent > 50
        assert record.map_change_low is not None
        assert record.map_change_high is not None
        change = record.map_percent - record.fp32_map_percent
        assert record.map_change_low - 1e-9 <= change <= record.map_change_high + 1e-9
    assert manifest.reading_score is not None
    assert manifest.reading_score.file == "localizer.int8.onnx"
    assert manifest.reading_score.f1 > 0.5
    assert Manifest.from_bytes((tmp_path / "out" / "bundle" / "manifest.json").read_bytes()) == manifest


def test_what_the_features_look_like_is_kept(export: Export, tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "training", videos := draw_videos(12, seed=1))
    found = export(calibration=folder, calibration_videos=7).feature_statistics
    assert found is not None
    assert (found.videos, len(found.direction), found.zero_rows_high) == (7, tiny.CHANNELS, 0)
    norms = [float(np.median(np.linalg.norm(video, axis=1))) for video in videos.values()]
    assert min(norms) - 1e-3 <= found.norm_low <= found.norm_high <= max(norms) + 1e-3
    assert found.snippet_s_low is None, "the annotations are of other videos"


def test_calibration_videos_that_are_annotated_say_the_seconds_a_snippet(export: Export, tmp_path: Path) -> None:
    annotations = json.loads((tmp_path / "annotations.json").read_text())
    videos = draw_videos(3, seed=1)
    for video in videos:
        annotations["database"][video] = {"subset": "training", "duration": 64.0, "annotations": []}
    (tmp_path / "all.json").write_text(json.dumps(annotations))
    folder = write_videos(tmp_path / "training", videos)
    found = export(calibration=folder, annotations=tmp_path / "all.json").feature_statistics
    assert found is not None
    spacings_s = [64 / len(video) for video in videos.values()]
    assert found.snippet_s_low == pytest.approx(min(spacings_s), rel=0.05)
    assert found.snippet_s_high == pytest.approx(max(spacings_s), rel=0.05)


def test_the_statistics_of_the_training_are_kept_and_other_calibration_features_warned_of(
    export: Export, trained: TrainedStale, tmp_path: Path
) -> None:
    features = TrainedFeatures(clip_recipe("mine", snippet_s=0.2), draw_statistics(channels=tiny.CHANNELS))
    said: list[str] = []
    short = {video: np.asarray(found / 1000, np.float32) for video, found in draw_videos(3, seed=1).items()}
    folder = write_videos(tmp_path / "training", short)
    manifest = export(of=dataclasses.replace(trained, features=features), say=said.append, calibration=folder)
    assert (manifest.recipe, manifest.feature_statistics) == features
    assert any(line.startswith("recipe of the training features: tower mine, image_size 224") for line in said)
    assert any("warning: 3 of 3 videos of --calibration do not look like those of" in line for line in said)


def test_without_calibration_the_same_dynamic_graph_is_both(export: Export) -> None:
    manifest = export()
    records = manifest.quantization[:2]
    assert [record.kind for record in records] == ["dynamic", "dynamic"]
    assert manifest.files["localizer.int8.onnx"] == manifest.files["localizer.int8-dynamic.onnx"]


def test_graphs_that_are_not_wanted_are_left_out_and_nothing_else_changes(export: Export, tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "training", draw_videos(12, seed=1))
    whole = export(calibration=folder)
    for graphs in (("ort-int8",), ("ort-int8-dynamic", "torch-fp32"), ("ort-fp32",)):
        small = export(calibration=folder, graphs=graphs)
        missing = {GRAPH_FILES[name] for name in GRAPH_FILES.keys() - set(graphs)}
        assert small.files.keys() == whole.files.keys() - missing
        changed = {layout.SELF_TEST}  # has what the int8 graphs gave
        assert {name: small.files[name] for name in small.files.keys() - changed} == {
            name: whole.files[name] for name in small.files.keys() - changed
        }
        assert small.graphs == {name: spec for name, spec in whole.graphs.items() if name not in missing}
        assert small.quantization == tuple(record for record in whole.quantization if record.file not in missing)
        assert small.parity == whole.parity, "the float graph was compared all the same"
        assert small.reading_score is not None
        assert small.reading_score.file == GRAPH_FILES[graphs[0]]
        with Bundle(tmp_path / "out" / "bundle") as bundle:
            assert Localizer(bundle, Settings()).backend == graphs[0]
            assert all(check.passed for check in self_test(bundle))


def test_a_bundle_with_one_graph_of_each_network_is_whole(export: Export, vision_folder: Path, tmp_path: Path) -> None:
    manifest = export(graphs=("ort-int8", "vision-fp32"), vision=str(vision_folder))
    kept = {layout.LOCALIZER_INT8, layout.TEXT_ENCODER, layout.VISION_ENCODER}
    assert manifest.graphs.keys() == {name for name in manifest.files if name.endswith(".onnx")} == kept
    assert {record.file for record in manifest.quantization} == {layout.LOCALIZER_INT8}
    with Bundle(tmp_path / "out" / "bundle") as bundle:
        assert all(check.passed for check in self_test(bundle))


def test_ruined_scales_write_nothing(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ruin(monkeypatch, *LAYERS)
    with pytest.raises(QuantizationError, match="with each alone in float"):
        export()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_ruined_torch_int8_is_written_with_its_loss(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quantize(localizer: TorchLocalizer) -> nn.Module:
        ruined = copy.deepcopy(localizer)
        layer = ruined.embedding["output"]
        assert isinstance(layer, nn.Linear)
        with torch.no_grad():
            layer.weight.mul_(8)
        return quantize_torch_localizer(ruined)

    monkeypatch.setattr(torch_quantization, "quantize_torch_localizer", quantize)
    manifest = export()
    (record,) = [record for record in manifest.quantization if record.file == "localizer.torch-int8.pth"]
    assert record.map_percent is not None
    assert record.fp32_map_percent is not None
    assert record.fp32_map_percent - record.map_percent > 5
    assert record.file in manifest.files
    assert Manifest.from_bytes((tmp_path / "out" / "bundle" / "manifest.json").read_bytes()) == manifest


def test_a_skipped_quantization_writes_nothing(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "count_integer_operators", lambda _model: 2)
    with pytest.raises(QuantizationError, match="computes 2 of 8 products"):
        export(annotations=None, validation_features=None)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_leak_is_refused_before_anything_is_made(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "text_encoder_model", lambda *_: pytest.fail("it begins"))
    folder = write_videos(tmp_path / "training", draw_videos(5) | draw_videos(2, name="unseen"))
    with pytest.raises(DatasetError, match="contains 2 of the validation videos, the first is unseen0"):
        export(calibration=folder)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "sse"}, "target 'sse', expected one of portable, vnni"),
        ({"text_precision": "int4"}, "text_precision 'int4'"),
        ({"annotations": Path("x")}, "annotations go together with validation_features or validation_videos"),
        ({"validation_features": Path("x")}, "annotations go together with validation_features or validation_videos"),
        ({"validation_videos": Path("x")}, "annotations go together with validation_features or validation_videos"),
        ({"video_info": Path("x")}, "video_info without annotations"),
        ({"calibration_videos": 0}, "calibration_videos 0"),
        ({"max_map_drop": -1.0}, "max_map_drop -1.0"),
        ({"max_map_drop": float("nan")}, "max_map_drop nan"),
        ({"weight_bits": 3}, "weight_bits 3, expected 4 to 8"),
        ({"weight_bits": 9, "target": "vnni"}, "weight_bits 9"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Int8Options(**options)


def test_options_that_saturate_are_refused() -> None:
    with pytest.raises(ExportError, match="--weight-bits 8 with --target portable"):
        Int8Options(weight_bits=8)
    assert Int8Options(weight_bits=8, target="vnni").weight_bits == 8
