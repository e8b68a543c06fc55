"""Features of another kind than the training's, through the command as a user types it."""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime.inputs import feature_check
from stale_runtime.inputs.feature_origin import FeatureOrigin
from stale_runtime.inputs.recipe import clip_recipe
from tests.cli.same_process import Done, fails, run
from tests.runtime.helpers import altered
from tests.runtime.inputs.drawn import draw_statistics, draw_video, rotate
from tests.tiny import CHANNELS, CLASSES

Array = NDArray[np.float32]
RECIPE = clip_recipe("openai/clip-vit-base-patch16", snippet_s=0.5)
"""Of the features that the network of these tests was trained on."""
GENUINE = draw_video(1, snippets=40, channels=CHANNELS)
WRONG: dict[str, tuple[Array, str]] = {
    "another CLIP": (
        rotate(GENUINE, seed=4),
        "features of another CLIP or of another layer of it",
    ),
    "transposed": (draw_video(2, snippets=CHANNELS, channels=CHANNELS).T, "transposed features"),
    "normalised": (GENUINE / np.linalg.norm(GENUINE, axis=1, keepdims=True), "length-normalised features"),
    "padded": (np.concatenate([GENUINE, np.zeros_like(GENUINE)]), "padded with zeros: 50% of the rows"),
    "noise": (np.random.default_rng(2).standard_normal((100, CHANNELS), np.float32), "features of another CLIP"),
}


@pytest.fixture
def work(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bundle that knows the features of its training, prompts, and a genuine video."""
    statistics = replace(draw_statistics(channels=CHANNELS), cosine_low=0.9)
    altered(bundle, tmp_path / "stale_bundle", feature_statistics=statistics.to_json(), recipe=asdict(RECIPE))
    monkeypatch.setattr(feature_check, "_NOISE", 0)  # 16 channels are too few to tell directions apart for certain
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    np.save(tmp_path / "genuine.npy", GENUINE)
    return tmp_path


def detect(work: Path, *arguments: str | Path) -> Done:
    return run("stale-run", *arguments, "--prompts", "classes.txt", "--no-cache", cwd=work)


def save(path: Path, features: Array) -> Path:
    path.parent.mkdir(exist_ok=True)
    np.save(path, np.asarray(features, np.float32))
    return path


def test_genuine_features_are_not_warned_of(work: Path) -> None:
    done = detect(work, "genuine.npy", "--strict", "--fps", "10", "--stride", "5")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", WRONG)
def test_wrong_features_are_warned_of_and_with_strict_refused(name: str, work: Path) -> None:
    features, expected = WRONG[name]
    save(work / "wrong.npy", features)
    done = detect(work, "wrong.npy")
    assert done.returncode == 0
    assert done.stderr.startswith(f"stale-run: warning: wrong.npy: {expected}")
    assert done.stderr.count("\n") == 1
    assert done.stdout, "there are detections nevertheless"
    arguments = ("wrong.npy", "--strict", "--prompts", "classes.txt")
    fails("stale-run", *arguments, cwd=work, code=3, says=f"wrong.npy: {expected}")


def test_a_wrong_stride_is_noticed(work: Path) -> None:
    done = detect(work, "genuine.npy", "--fps", "50", "--stride", "1")
    assert (
        "warning: genuine.npy: 0.02 s a snippet, in training 0.5: is --fps, --stride or a duration wrong?"
        in done.stderr
    )
    (work / "durations.csv").write_text("genuine,0.8\n")
    assert "0.02 s a snippet" in detect(work, "genuine.npy", "--durations", "durations.csv").stderr


def test_what_stands_beside_the_features_is_compared(work: Path) -> None:
    origin = FeatureOrigin(recipe=RECIPE, duration_s=20, snippets=len(GENUINE), source_sha256="0" * 64)
    (work / "genuine.recipe.json").write_bytes(origin.to_bytes())
    assert detect(work, "genuine.npy").stderr == ""
    other = replace(origin, recipe=replace(RECIPE, channel_order="bgr"))
    (work / "genuine.recipe.json").write_bytes(other.to_bytes())
    assert "channel_order bgr instead of rgb" in detect(work, "genuine.npy").stderr
    (work / "genuine.recipe.json").write_bytes(replace(origin, snippets=39).to_bytes())
    assert "says 39 rows, genuine.npy has 40" in detect(work, "genuine.npy").stderr


def test_what_is_broken_beside_the_features_is_said_once(work: Path) -> None:
    (work / "genuine.recipe.json").write_text("{")
    assert detect(work, "genuine.npy", "--duration", "20").stderr.count("not valid JSON") == 1
    done = run("stale-run", "genuine.npy", "--prompts", "classes.txt", cwd=work)
    assert done.returncode == 3
    assert done.stderr.count("not valid JSON") == 1, done.stderr


def test_a_run_warns_once_and_the_report_lists_all(work: Path) -> None:
    for n, (features, _) in enumerate(WRONG.values()):
        save(work / "videos" / f"w{n}.npy", features)
    save(work / "videos" / "a.npy", GENUINE)
    done = detect(work, "videos", "--report", "report.json", "--format", "json", "-o", "found.json")
    assert done.returncode == 0
    assert done.stderr.count("warning") == 1
    assert "videos/w0.npy: features of another CLIP" in done.stderr
    assert "further videos are not warned of; --report lists them" in done.stderr
    report = {video["video"]: video for video in json.loads((work / "report.json").read_text())["videos"]}
    assert "warning" not in report["a"]
    assert [report[f"w{n}"]["warning"].split(": ", 1)[1][:10] for n in range(len(WRONG))] == [
        expected[:10] for _, expected in WRONG.values()
    ]


def test_a_note_does_not_take_the_place_of_a_warning(work: Path) -> None:
    save(work / "videos" / "a.npy", GENUINE[None])
    save(work / "videos" / "b.npy", WRONG["normalised"][0])
    said = detect(work, "videos").stderr.splitlines()
    assert said[0].startswith("stale-run: videos/a.npy: shape (1, 40, ")
    assert said[1].startswith("stale-run: warning: videos/b.npy: length-normalised")


def test_strict_refuses_the_wrong_videos_of_a_folder(work: Path) -> None:
    save(work / "videos" / "a.npy", GENUINE)
    save(work / "videos" / "b.npy", WRONG["normalised"][0])
    done = detect(work, "videos", "--strict", "--format", "csv", "--durations", save_durations(work))
    assert done.returncode == 5
    assert "error: videos/b.npy: length-normalised" in done.stderr
    assert {line.split(",")[0] for line in done.stdout.splitlines()[1:]} <= {"a"}
    assert detect(work, "videos", "--strict", "--fail-fast").returncode == 3
    save(work / "videos" / "a.npy", WRONG["normalised"][0])
    assert detect(work, "videos", "--strict").returncode == 3, "all failed"


def save_durations(work: Path) -> Path:
    (work / "durations.csv").write_text("a,20\nb,20\n")
    return work / "durations.csv"


def test_a_resumed_run_still_refuses_what_an_unstrict_one_finished(work: Path) -> None:
    save(work / "videos" / "a.npy", WRONG["normalised"][0])
    save(work / "videos" / "b.npy", GENUINE)
    (work / "videos" / "c.npy").write_bytes(b"broken")
    save(work / "videos" / "d.npy", GENUINE)
    arguments = ("videos", "--format", "json", "-o", "found.json")
    assert detect(work, *arguments, "--fail-fast").returncode == 3
    done = detect(work, *arguments, "--resume", "--strict")
    assert "2 of 4 videos were finished before" in done.stderr
    assert "error: videos/a.npy: length-normalised" in done.stderr
    assert set(json.loads((work / "found.json").read_text())["results"]) == {"b", "d"}


def test_strict_needs_something_to_compare_with(bundle: Path, work: Path) -> None:
    arguments = ("genuine.npy", "--strict", "--prompts", "classes.txt", "--bundle", bundle)
    fails("stale-run", *arguments, cwd=work, code=4, says="says nothing about the features of the training")


def pipe(work: Path, features: Array, *options: str) -> "subprocess.CompletedProcess[bytes]":
    data = io.BytesIO()
    np.save(data, np.asarray(features, np.float32))
    command = (
        str(Path(sys.executable).parent / "stale-run"),
        "-",
        "--prompts",
        "classes.txt",
        "--window",
        "256",
        *options,
    )
    return subprocess.run(command, cwd=work, input=data.getvalue(), capture_output=True, timeout=120, check=False)


@pytest.mark.parametrize("snippets", [40, 3000])
def test_the_first_snippets_of_a_stream_are_compared(snippets: int, work: Path) -> None:
    genuine = draw_video(3, snippets=snippets, channels=CHANNELS)
    assert pipe(work, genuine, "--strict").stderr == b""
    normalised = genuine / np.linalg.norm(genuine, axis=1, keepdims=True)
    done = pipe(work, normalised)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)
    assert done.stderr.startswith(b"stale-run: warning: stdin: length-normalised features")
    done = pipe(work, normalised, "--strict")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"stale-run: error: stdin: length-normalised features")


def test_a_stream_that_becomes_wrong_later_is_not_noticed(work: Path) -> None:
    genuine = draw_video(3, snippets=64, channels=CHANNELS)
    assert pipe(work, np.concatenate([genuine, np.zeros_like(genuine)])).stderr == b""


def test_an_old_bundle_warns_of_nothing(bundle: Path, work: Path) -> None:
    shutil.rmtree(work / "stale_bundle")
    copy = altered(bundle, work / "stale_bundle", format_version=2)
    content = json.loads((copy / "manifest.json").read_text())
    assert content["feature_statistics"] is None
    save(work / "wrong.npy", WRONG["noise"][0])
    assert detect(work, "wrong.npy", "--bundle", str(bundle)).stderr == ""
