"""The int8 options of ``stale-export``, and the bundles that they give in ``stale-run``."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from stale_export import exporter
from stale_runtime import Localizer
from tests import tiny
from tests.cli.same_process import Done, fails, run
from tests.export.int8 import draw_videos, write_validation, write_videos

NAME = "stale-export"
FROM = ("--ckpt", "best.pth", "--clip", "clip", "--classes", "classes.txt")


@pytest.fixture
def work(bundle: Path, checkpoint: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint with training features, and with validation videos whose mAP is high."""
    text_encoder = onnx.load_from_string((bundle / "text_encoder.onnx").read_bytes())  # tracing it takes seconds
    monkeypatch.setattr(exporter, "text_encoder_model", lambda *_: text_encoder)
    shutil.copy(checkpoint, tmp_path / "best.pth")
    shutil.copytree(clip_folder, tmp_path / "clip")
    (tmp_path / "classes.txt").write_text("\n".join(tiny.CLASSES))
    write_videos(tmp_path / "training", draw_videos(10, seed=1))
    write_validation(tmp_path, tiny.make_network(), Localizer.open(bundle).encode_prompts(tiny.CLASSES))
    return tmp_path


def export(work: Path, *arguments: str) -> Done:
    return run(NAME, *FROM, *arguments, cwd=work)


def detect(work: Path, *arguments: str) -> Done:
    return run("stale-run", *arguments, cwd=work)


def rows(table: str) -> dict[str, list[str]]:
    """The cells after each file's name."""
    return {cells[0]: cells[1:] for cells in (re.split(r" {2,}", line.strip()) for line in table.splitlines()[2:])}


def records(work: Path) -> dict[str, dict[str, object]]:
    content = json.loads((work / "stale_bundle" / "manifest.json").read_text())
    return {record["file"]: record for record in content["quantization"]}


def test_weights_that_saturate_are_refused_at_once(work: Path) -> None:
    for target in ([], ["--target", "portable"]):
        says = "--weight-bits 8 with --target portable"
        fails(NAME, *FROM, "--weight-bits", "8", *target, cwd=work, code=1, says=says)
    assert not (work / "stale_bundle").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--validate", "annotations.json"], "--validate without --validation-features or --validate-videos; give the"),
        (["--validation-features", "validation"], "--validation-features without --validate; give the annotations"),
        (["--validate-videos", "videos"], "--validate-videos without --vision; give the vision tower"),
        (
            ["--validate-videos", "videos", "--validate", "annotations.json", "--validation-features", "validation"],
            "--validate-videos without --vision; give the vision tower",
        ),
        (["--validate-videos", "videos", "--vision", "tower"], "--validate-videos without --validate; give the annot"),
        (["--video-info", "video_info_new.csv"], "--video-info without --validate"),
        (["--weight-bits", "9", "--target", "vnni"], "--weight-bits"),
        (["--target", "sse"], "--target"),
        (["--text-precision", "int4"], "--text-precision"),
        (["--calibration-videos", "0"], "--calibration-videos"),
        (["--max-map-drop", "-1"], "--max-map-drop"),
        (
            ["--graphs", "torch-fp32"],
            "--graphs torch-fp32: stale-run would have nothing to run; add at least one",
        ),
        (["--graphs", "ort-int8", "vision-int8"], "vision-int8 without a vision tower; give the tower, or leave out"),
        (["--graphs", "ort-int8", "--vision", "tower"], "no graph of the vision tower; add vision-fp32 or vision-int8"),
        (["--graphs", "openvino-int8"], "--graphs"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(work: Path, arguments: list[str], says: str) -> None:
    fails(NAME, *FROM, *arguments, cwd=work, code=2, says=says)


def test_without_calibration_the_graph_is_dynamic_and_nothing_is_proved(work: Path) -> None:
    done = export(work)
    assert done.returncode == 0, done.stderr
    assert "stale-export: no --calibration: ort-int8 is the dynamic graph" in done.stderr.splitlines()
    for name in ("localizer.int8.onnx", "localizer.int8-dynamic.onnx"):
        assert rows(done.stdout)[name][1:] == ["dynamic, 8 of 8 operators", "none", "not measured"]
        record = records(work)[name]
        assert (record["kind"], record["map_percent"], record["calibration_videos"]) == ("dynamic", None, [])
        assert (record["target"], record["weight_bits"]) == ("portable", 7)
    assert detect(work, "--self-test").returncode == 0
    np.save(work / "video.npy", draw_videos(1)["video0"])
    found = detect(work, "video.npy", "--prompts", "classes.txt", "-v")
    assert found.returncode == 0, found.stderr
    assert "ort-fp32, T=" in found.stderr


def test_calibrated_and_validated(work: Path) -> None:
    (work / "training" / "v_broken.npy").write_bytes(b"broken")
    done = export(
        work,
        *("--calibration", "training", "--calibration-videos", "11", "--calibration-seed", "3"),
        *("--validate", "annotations.json", "--validation-features", "validation", "--max-map-drop", "20"),
        *("--target", "portable", "--weight-bits", "6", "--text-precision", "int8"),
    )
    assert done.returncode == 0, done.stderr
    assert "left out: training/v_broken.npy: not a .npy file" in done.stderr
    table = rows(done.stdout)
    assert table["localizer.int8.onnx"][1:3] == ["static, 8 of 8 operators", "none"]
    assert table["localizer.int8-dynamic.onnx"][1:3] == ["dynamic, 8 of 8 operators", "none"]
    assert table["text_encoder.onnx"][1:] == ["dynamic, 8 of 8 operators", "none", "not measured"]
    static = records(work)["localizer.int8.onnx"]
    assert static["calibration_videos"] == sorted(draw_videos(10))
    assert (static["calibration_seed"], static["target"], static["weight_bits"]) == (3, "portable", 6)
    exact, score = static["fp32_map_percent"], static["map_percent"]
    assert isinstance(exact, float)
    assert isinstance(score, float)
    assert 60 < exact <= score + 20
    assert table["localizer.int8.onnx"][3].startswith(f"{score:.2f} ({score - exact:+.2f}, 95 %: ")

    assert detect(work, "--self-test").returncode == 0
    for chosen, backend in (([], "ort-int8"), (["--backend", "ort-int8-dynamic"], "ort-int8-dynamic")):
        found = detect(work, "training/v_video0.npy", "--prompts", "classes.txt", "-v", *chosen)
        assert found.returncode == 0, found.stderr
        assert f"{backend}, T=" in found.stderr


def test_a_leak_ends_it_with_one_line_and_nothing_is_written(work: Path) -> None:
    done = export(
        work,
        *("--calibration", "validation", "--validate", "annotations.json", "--validation-features", "validation"),
    )
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert last.startswith("stale-export: error: --calibration validation: contains 8 of the validation videos, ")
    assert not (work / "stale_bundle").exists()


def test_a_graph_of_stale_run_that_loses_too_much_is_named_with_remedies(work: Path) -> None:
    done = export(
        work,
        *("--calibration", "training", "--validate", "annotations.json", "--validation-features", "validation"),
        *("--max-map-drop", "0.001", "--weight-bits", "4"),
    )
    assert done.returncode == 7
    last = done.stderr.splitlines()[-1]
    assert re.match(r"stale-export: error: localizer\.int8(-dynamic)?\.onnx: mAP ", last)
    assert "give --max-map-drop " in last
    assert last.endswith("; nothing was written")
    assert not (work / "stale_bundle").exists()


def test_subsets_are_read_from_the_original_s_file(work: Path) -> None:
    database = json.loads((work / "annotations.json").read_text())["database"]
    original = {
        f"v_{name}": {"duration_second": video["duration"], "annotations": video["annotations"]}
        for name, video in database.items()
    }
    (work / "annotations.json").write_text(json.dumps(original))
    lines = "".join(f"v_{name},10,60.0,25.0,25.0,validation,10\n" for name in database)
    (work / "video_info_new.csv").write_text("video,numFrame,seconds,fps,rfps,subset,featureFrame\n" + lines)
    given = ("--validate", "annotations.json", "--validation-features", "validation", "--max-map-drop", "20")
    done = export(work, *given)
    assert done.returncode == 3
    assert "does not say which videos are of subset 'validation'" in done.stderr.splitlines()[-1]
    done = export(work, *given, "--video-info", "video_info_new.csv")
    assert done.returncode == 0, done.stderr
    assert records(work)["localizer.int8.onnx"]["map_percent"] is not None
