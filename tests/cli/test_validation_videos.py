"""``stale-export --validate-videos``, and the bundles that it gives."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from stale_export import exporter
from stale_runtime import Localizer
from stale_runtime.bundle import layout
from tests import tiny
from tests.cli.same_process import Done, fails, run
from tests.export.int8 import draw_videos, ruin, write_validation, write_videos

pytest.importorskip("av")
NAME = "stale-export"
FROM = ("--ckpt", "best.pth", "--clip", "clip", "--classes", "classes.txt", "--vision", "tower")
GIVEN = ("--recipe", "recipe.json", "--validate", "annotations.json", "--validate-videos", "videos")


@pytest.fixture
def work(
    annotated_videos: Path,
    bundle: Path,
    checkpoint: Path,
    clip_folder: Path,
    vision_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A checkpoint, a vision tower, and annotated videos on which the float graphs have a high mAP."""
    text_encoder = onnx.load_from_string((bundle / "text_encoder.onnx").read_bytes())  # tracing it takes seconds
    monkeypatch.setattr(exporter, "text_encoder_model", lambda *_: text_encoder)
    shutil.copytree(annotated_videos, tmp_path, dirs_exist_ok=True)
    shutil.copy(checkpoint, tmp_path / "best.pth")
    shutil.copytree(clip_folder, tmp_path / "clip")
    shutil.copytree(vision_folder, tmp_path / "tower")
    (tmp_path / "classes.txt").write_text("\n".join(tiny.CLASSES))
    (tmp_path / "recipe.json").write_text('{"snippet_s": 0.5, "frames": 1, "normalised": false}')
    return tmp_path


def export(work: Path, *arguments: str) -> Done:
    return run(NAME, *FROM, *arguments, cwd=work)


def records(work: Path) -> dict[str, dict[str, Any]]:
    content = json.loads((work / "stale_bundle" / "manifest.json").read_text())
    return {record["file"]: record for record in content["quantization"]}


def last_cells(table: str) -> dict[str, str]:
    """The last cell of each file."""
    return {line.split()[0]: re.split(r" {2,}", line.strip())[-1] for line in table.splitlines()[2:] if line}


def test_videos_alone_validate_both_the_tower_and_the_localizer(work: Path) -> None:
    done = export(work, *GIVEN, "--max-map-drop", "40")
    assert done.returncode == 0, done.stderr
    assert "stale-export: --validate-videos videos: 3 of the 3 annotated videos are there" in done.stderr.splitlines()
    for file in (layout.VISION_ENCODER_INT8, layout.LOCALIZER_INT8):
        record = records(work)[file]
        exact, score = record["fp32_map_percent"], record["map_percent"]
        assert 60 < exact <= score + 40
        assert record["validation_videos"] == 3
        low, high = record["map_change_low"], record["map_change_high"]
        assert low <= score - exact <= high
        assert last_cells(done.stdout)[file] == f"{score:.2f} ({score - exact:+.2f}, 95 %: {low:+.2f} to {high:+.2f})"
    assert run("stale-run", "--self-test", cwd=work).returncode == 0
    assert Localizer.open(work / "stale_bundle").backend == "ort-int8"


def test_features_validate_the_localizer_where_they_are_given(work: Path, bundle: Path) -> None:
    prompts = Localizer.open(bundle).encode_prompts(tiny.CLASSES)
    annotations, _ = write_validation(work / "videos", tiny.make_network(), prompts)
    database = {
        video: known
        for path in (work / "annotations.json", annotations)
        for video, known in json.loads(path.read_text())["database"].items()
    }
    (work / "annotations.json").write_text(json.dumps({"database": database}))
    done = export(work, *GIVEN, "--validation-features", "videos/validation", "--max-map-drop", "40")
    assert done.returncode == 0, done.stderr
    assert "--validate-videos videos: 3 of the 11 annotated videos are there" in done.stderr
    found = records(work)
    assert found[layout.VISION_ENCODER_INT8]["validation_videos"] == 3
    assert found[layout.LOCALIZER_INT8]["validation_videos"] == 8


def test_a_bad_int8_tower_is_not_written(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its embeddings are eight times too long, which their cosine with the float ones does not show."""
    ruin(monkeypatch, "projection")
    done = export(work, *GIVEN, "--max-map-drop", "20")
    assert done.returncode == 0, done.stderr
    assert "vision_encoder.int8.onnx: cosine of int8 and float embeddings at least 0.9" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "warning: no vision_encoder" in line]
    says = r"stale-export: warning: no vision_encoder\.int8\.onnx: mAP [\d.]+ with its features of 3 videos against "
    assert re.match(says + r"[\d.]+ with the float tower's, a drop of [\d.]+, expected at most 20\.0 \(--max", line)
    names = {path.name for path in (work / "stale_bundle").iterdir()}
    assert layout.VISION_ENCODER in names
    assert layout.VISION_ENCODER_INT8 not in names | records(work).keys() | last_cells(done.stdout).keys()
    assert run("stale-run", "--self-test", cwd=work).returncode == 0
    found = run("stale-run", "videos/v_0.avi", "--prompts", "classes.txt", cwd=work)
    assert found.returncode == 0, found.stderr


def test_without_an_int8_tower_videos_beside_features_are_not_read(
    work: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stale_export.vision_export.LOWEST_INT8_COSINE", 1.0)
    (work / "features").mkdir()
    prompts = Localizer.open(bundle).encode_prompts(tiny.CLASSES)
    annotations, _ = write_validation(work / "features", tiny.make_network(), prompts)
    shutil.copy(annotations, work / "annotations.json")
    (work / "videos" / "v_unseen0.avi").write_bytes(b"never opened")
    done = export(work, *GIVEN, "--validation-features", "features/validation", "--max-map-drop", "40")
    assert done.returncode == 0, done.stderr
    assert "there is no int8 vision tower to compare on --validate-videos, so these are not read" in done.stderr
    assert "left out" not in done.stderr


def test_a_leak_is_refused(work: Path) -> None:
    write_videos(work / "training", draw_videos(3) | {"1": draw_videos(1)["video0"]})
    done = export(work, *GIVEN, "--calibration", "training")
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "stale-export: error: --calibration training: contains 1 of the validation videos, the first"
    )
    assert not (work / "stale_bundle").exists()


def test_what_cannot_be_used_ends_it_with_one_line(work: Path) -> None:
    last = export(work, *GIVEN[:-1], "nowhere").stderr.splitlines()[-1]
    assert last.startswith("stale-export: error: --validate-videos nowhere: ")
    last = export(work, *GIVEN[2:]).stderr.splitlines()[-1]
    assert last.startswith(
        "stale-export: error: --validate-videos: snippet_s, frames, normalised of the recipe unknown"
    )
    fails(NAME, *FROM, *GIVEN[-2:], cwd=work, code=2, says="--validate-videos without --validate; give the annotations")
    assert not (work / "stale_bundle").exists()
