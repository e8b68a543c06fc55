"""``stale-features``, as a user types it."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stale_runtime.inputs.shards import shard_index
from tests.cli import command
from tests.cli.same_process import Done, fails, run
from tests.conftest import BuildOnce
from tests.small_video import RECIPE, with_tower, write_clip, write_tower
from tests.tiny import CHANNELS

pytest.importorskip("av")
NAME = "stale-features"
SECONDS = {"a": 4.0, "b": 2.5, "v_c": 0.5}


@pytest.fixture(scope="session")
def made(build_once: BuildOnce, bundle: Path) -> Path:
    """A folder of videos, a tower and a bundle with it; read-only by convention."""

    def make(folder: Path) -> None:
        with_tower(bundle, folder / "stale_bundle")
        write_tower(folder / "tower")
        (folder / "videos").mkdir()
        for seed, (name, seconds) in enumerate(SECONDS.items()):
            write_clip(folder / "videos" / f"{name}.mp4", seconds, seed=seed)

    return build_once("feature-videos", make)


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def extract(work: Path, *arguments: str | Path) -> Done:
    done = run(NAME, *arguments, cwd=work)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done


def test_the_card_s_command_writes_features_and_their_origin(work: Path) -> None:
    done = command.run(NAME, "videos/a.mp4", "-o", "feats", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "times real time" in done.stderr
    assert sorted(os.listdir(work / "feats")) == ["a.npy", "a.recipe.json"]
    features = np.load(work / "feats" / "a.npy")
    assert (features.shape, features.dtype) == ((20, CHANNELS), np.float16)
    origin = json.loads((work / "feats" / "a.recipe.json").read_text())
    assert origin["duration_s"] == pytest.approx(SECONDS["a"], abs=0.05)
    assert origin["snippets"] == 20
    assert origin["recipe"]["tower"] == "small"
    assert origin["source_sha256"] == hashlib.sha256((work / "videos" / "a.mp4").read_bytes()).hexdigest()


def test_a_tower_s_folder_and_its_bundle_give_the_same(work: Path) -> None:
    extract(work, "videos", "-o", "one")
    extract(work, "videos", "-o", "two", "--vision", "tower")
    assert sorted(os.listdir(work / "one")) == sorted(os.listdir(work / "two"))
    for name in SECONDS:
        one, two = (np.load(work / folder / f"{name}.npy") for folder in ("one", "two"))
        assert np.array_equal(one, two)


def test_rows_differ_from_video_to_video_and_in_time(work: Path) -> None:
    extract(work, "videos", "-o", "feats")
    a, b = (np.load(work / "feats" / f"{name}.npy").astype(np.float32) for name in "ab")
    assert np.abs(a[:12] - b).max() > 0.1
    assert np.abs(a[0] - a[-1]).max() > 0.1
    assert len(np.load(work / "feats" / "v_c.npy")) == 2


def test_workers_write_the_same_and_a_bad_video_costs_no_good_one(work: Path) -> None:
    extract(work, "videos", "-o", "alone")
    (work / "videos" / "bad.mp4").write_bytes(b"no video" * 99)
    done = command.run(NAME, "videos", "-o", "feats", "--workers", "2", cwd=work)
    assert done.returncode == 5
    assert "error: videos/bad.mp4: " in done.stderr
    assert "1 of 4 failed" in done.stderr
    for name in SECONDS:
        for suffix in (".npy", ".recipe.json"):
            alone, together = (work / folder / f"{name}{suffix}" for folder in ("alone", "feats"))
            assert alone.read_bytes() == together.read_bytes()
    assert not list((work / "feats").glob("bad*"))


def test_shards_write_the_features_of_all_videos(work: Path) -> None:
    extract(work, "videos", "-o", "all")
    empty = [
        index for index in range(4) if not any(shard_index(name.removeprefix("v_"), 4) == index for name in SECONDS)
    ]
    for index in range(4):
        done = extract(work, "videos", "--shard", f"{index}/4", "-o", "feats")
        assert ("has no videos" in done.stderr) == (index in empty)
    assert empty
    assert {path.name: path.read_bytes() for path in (work / "feats").iterdir()} == {
        path.name: path.read_bytes() for path in (work / "all").iterdir()
    }


def test_a_single_bad_video_ends_the_command(work: Path) -> None:
    (work / "bad.mp4").write_bytes(b"no video" * 99)
    fails(NAME, "bad.mp4", "-o", "feats", cwd=work, code=3, says="bad.mp4: ")
    assert os.listdir(work / "feats") == []


def test_all_bad_videos_give_the_first_one_s_exit_code(work: Path) -> None:
    for name in ("x", "y"):
        (work / f"{name}.mp4").write_bytes(b"no video" * 99)
    assert run(NAME, "x.mp4", "y.mp4", "-o", "feats", cwd=work).returncode == 3


def test_what_is_done_is_skipped(work: Path) -> None:
    extract(work, "videos/a.mp4", "-o", "feats")
    before = (work / "feats" / "a.npy").stat()
    done = extract(work, "videos", "-o", "feats")
    assert "2 videos, 3.0 s, in " in done.stderr
    assert "; 1 was done before" in done.stderr
    after = (work / "feats" / "a.npy").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(list((work / "feats").glob("*.npy"))) == 3


@pytest.mark.parametrize("lost", ["a.npy", "a.recipe.json"])
def test_after_a_kill_between_two_files_both_are_made_again_or_refused(work: Path, lost: str) -> None:
    extract(work, "videos/a.mp4", "-o", "feats")
    expected = (work / "feats" / "a.npy").read_bytes()
    (work / "feats" / lost).unlink()
    if lost == "a.recipe.json":  # of features that somebody else made
        says = "not what stale-features wrote; give --overwrite, or another -o"
        fails(NAME, "videos/a.mp4", "-o", "feats", cwd=work, code=3, says=says)
    extract(work, "videos/a.mp4", "-o", "feats", *(["--overwrite"] if lost == "a.recipe.json" else []))
    assert (work / "feats" / "a.npy").read_bytes() == expected
    assert (work / "feats" / "a.recipe.json").exists()


def test_features_of_another_video_or_recipe_are_replaced_only_if_asked_for(work: Path) -> None:
    extract(work, "videos/a.mp4", "-o", "feats")
    shutil.copy(work / "videos" / "b.mp4", work / "a.mp4")
    fails(NAME, "a.mp4", "-o", "feats", cwd=work, code=3, says="made from another video; give --overwrite")
    recipe = {**json.loads((work / "tower" / "recipe.json").read_text()), "snippet_s": 0.1}
    (work / "tower" / "recipe.json").write_text(json.dumps(recipe))
    says = "made by another recipe (snippet_s)"
    fails(NAME, "videos/a.mp4", "-o", "feats", "--vision", "tower", cwd=work, code=3, says=says)
    extract(work, "videos/a.mp4", "-o", "feats", "--vision", "tower", "--overwrite")
    assert len(np.load(work / "feats" / "a.npy")) == 40


@pytest.mark.parametrize("content", ['{"recipe": "pasta"}', "not JSON", None])
def test_a_file_that_is_not_ours_is_replaced_only_if_asked_for(work: Path, content: str | None) -> None:
    extract(work, "videos/b.mp4", "-o", "feats")
    beside = work / "feats" / "a.recipe.json"
    if content is None:  # that of another video, which somebody copied
        shutil.copy(work / "feats" / "b.recipe.json", beside)
    else:
        beside.write_text(content)
    before = beside.read_bytes()
    problem = "made from another video" if content is None else "not what stale-features wrote"
    says = f"a.recipe.json: it exists, {problem}; give --overwrite, or another -o"
    fails(NAME, "videos/a.mp4", "-o", "feats", cwd=work, code=3, says=says)
    assert beside.read_bytes() == before
    assert not (work / "feats" / "a.npy").exists()
    extract(work, "videos/a.mp4", "-o", "feats", "--overwrite")
    assert json.loads(beside.read_text())["snippets"] == 20


@pytest.mark.parametrize("name", ["a.npy", "a.recipe.json"])
def test_a_folder_in_the_place_of_a_file_costs_nothing(work: Path, name: str) -> None:
    extract(work, "videos/a.mp4", "-o", "feats")
    (work / "feats" / name).unlink()
    (work / "feats" / name).mkdir()
    (work / "feats" / name / "precious").touch()
    others = sorted(os.listdir(work / "feats"))
    says = f"feats/{name}: a folder, but a file is to be written there; rename it, or give another -o"
    fails(NAME, "videos/a.mp4", "-o", "feats", "--overwrite", cwd=work, code=3, says=says)
    assert sorted(os.listdir(work / "feats")) == others
    assert (work / "feats" / name / "precious").exists()


def test_features_that_cannot_be_replaced_stay_with_their_origin(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract(work, "videos/a.mp4", "-o", "feats")
    before = {path.name: path.read_bytes() for path in (work / "feats").iterdir()}
    shutil.copy(work / "videos" / "b.mp4", work / "a.mp4")
    replace, refused = os.replace, []

    def refuse(source: Path, target: Path) -> None:
        if source.name == target.name == "a.npy":
            refused.append(source)
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    fails(NAME, "a.mp4", "-o", "feats", "--overwrite", cwd=work, code=2, says="Operation not permitted")
    assert refused
    assert {path.name: path.read_bytes() for path in (work / "feats").iterdir()} == before


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("number", "code", "says"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "by SIGTERM"), (signal.SIGHUP, 129, "by SIGHUP")],
)
def test_an_ended_run_leaves_whole_files_and_continues(
    work: Path, number: int, code: int, says: str, workers: str
) -> None:
    for n in range(12):
        write_clip(work / "videos" / f"{n}.mp4", 3, seed=n)
    arguments = [str(Path(sys.executable).parent / NAME), "videos", "-o", "feats", "--workers", workers]
    running = subprocess.Popen(
        arguments, cwd=work, stderr=subprocess.PIPE, text=True, preexec_fn=command.interruptible, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while len(list((work / "feats").glob("*.npy"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(running.pid, number)
    _, said = running.communicate(timeout=60)  # until all processes that write there have ended
    assert running.returncode == code
    assert len(said.strip().splitlines()) == 1, said
    assert says in said
    assert "repeat the command to continue" in said
    assert not list((work / "feats").glob(".stale-*"))
    for path in (work / "feats").glob("*.npy"):
        assert np.load(path).shape[1] == CHANNELS
        assert path.with_suffix(".recipe.json").exists()
    done = extract(work, "videos", "-o", "feats")
    assert "were done before" in done.stderr
    assert len(list((work / "feats").glob("*.npy"))) == 15
    assert not list((work / "feats").glob(".stale-*"))


def test_workers_end_with_a_killed_parent(work: Path) -> None:
    for n in range(12):
        write_clip(work / "videos" / f"{n}.mp4", 3, seed=n)
    arguments = [str(Path(sys.executable).parent / NAME), "videos", "-o", "feats", "--workers", "2"]
    running = subprocess.Popen(arguments, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((work / "feats").glob(".stale-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.kill()
    assert running.communicate(timeout=60)[0] == b""  # the pipe closes when the last of them has ended
    extract(work, "videos", "-o", "feats")
    assert not list((work / "feats").glob(".stale-*"))


IGNORING = """
import signal
from stale_runtime.terminal.termination import Termination, raise_termination

signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
caught = 0
with raise_termination():
    signal.raise_signal(signal.SIGHUP)
    try:
        signal.raise_signal(signal.SIGTERM)
    except Termination:
        caught += 1
    signal.raise_signal(signal.SIGTERM)  # the first one is enough
print(caught, signal.getsignal(signal.SIGHUP).name, signal.getsignal(signal.SIGTERM).name)
"""


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    done = subprocess.run([sys.executable, "-c", IGNORING], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "1 SIG_IGN SIG_DFL\n"


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("missing", "missing: no such folder, expected one with an image encoder as ONNX, such as vision_encoder.onnx"),
        ("videos/a.mp4", "videos/a.mp4: not a folder, expected one with an image encoder as ONNX"),
        ("videos", "videos: no recipe.json, expected one that says how the image encoder gets its images"),
    ],
)
def test_a_missing_tower_is_told_with_the_remedy(work: Path, folder: str, says: str) -> None:
    fails(NAME, "videos", "-o", "feats", "--vision", folder, cwd=work, code=3, says=says)


def test_the_mean_of_several_frames_is_a_row(work: Path) -> None:
    recipe = {**RECIPE.to_json(), "frames": 5, "normalised": True}
    (work / "tower" / "recipe.json").write_text(json.dumps(recipe))
    extract(work, "videos/a.mp4", "-o", "feats", "--vision", "tower")
    features = np.load(work / "feats" / "a.npy").astype(np.float32)
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-2)


def test_published_features_tell_their_recipe(work: Path) -> None:
    truth = {**RECIPE.to_json(), "channel_order": "bgr", "resize": "squash", "snippet_s": 0.1}
    (work / "tower" / "recipe.json").write_text(json.dumps(truth))
    extract(work, "videos/a.mp4", "-o", "published", "--vision", "tower")
    done = run(NAME, "--compare", "published/a.npy", "videos/a.mp4", cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    _, _, best, *others, says = done.stdout.splitlines()
    assert best.split() == ["bgr", "whole", "10", "40", "1.0000", "1.0000"]
    assert len(others) == 7
    assert says == "Best: channel_order bgr, resize squash, snippet_s 0.1; the recipe in use says otherwise."


def test_published_features_may_be_spread_over_the_video(work: Path) -> None:
    recipe = {**RECIPE.to_json(), "snippet_s": 4.0 / 13}
    (work / "tower" / "recipe.json").write_text(json.dumps(recipe))
    extract(work, "videos/a.mp4", "-o", "published", "--vision", "tower")
    done = run(NAME, "--compare", "published/a.npy", "videos/a.mp4", cwd=work)
    assert done.stdout.splitlines()[2].split() == ["rgb", "centre", "3.25", "(spread)", "13", "1.0000", "1.0000"]


def test_recipes_that_a_video_cannot_tell_apart_are_said_to_be_more(work: Path) -> None:
    write_clip(work / "short.mp4", 0.04)
    extract(work, "short.mp4", "-o", "published")
    done = run(NAME, "--compare", "published/short.npy", "short.mp4", cwd=work)
    *_, says = done.stdout.splitlines()
    assert says.startswith("Best: channel_order rgb, resize crop, snippet_s 0.2")
    assert says.endswith(" more fit as well: compare a longer video, with motion and colours.")


def test_features_of_another_video_fit_no_recipe(work: Path) -> None:
    extract(work, "videos", "-o", "published")
    done = run(NAME, "--compare", "published/b.npy", "videos/a.mp4", cwd=work)
    assert "None of them fits" in done.stdout.splitlines()[-1]


def test_published_features_of_another_width_are_refused(work: Path) -> None:
    np.save(work / "wide.npy", np.ones((10, CHANNELS + 1), np.float32))
    fails(NAME, "--compare", "wide.npy", "videos/a.mp4", cwd=work, code=3, says=f"expected (snippets, {CHANNELS})")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no VIDEOS"),
        (["videos"], "no -o"),
        (["videos", "-o", "videos/a.mp4"], "not a folder"),
        (["videos", "-o", "no/where"], "there is no folder no"),
        (["videos", "-o", "feats", "--vision", "tower", "--bundle", "stale_bundle"], "not both"),
        (["videos", "--compare", "a.npy"], "--compare takes one video"),
        (["videos/a.mp4", "--compare", "a.npy", "-o", "feats"], "-o with --compare"),
        (["videos/a.mp4", "--compare", "a.npy", "--workers", "2"], "--workers with --compare"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(work: Path, arguments: list[str], says: str) -> None:
    fails(NAME, *arguments, cwd=work, code=2, says=says)


def test_a_recipe_that_does_not_say_enough_is_refused(work: Path) -> None:
    recipe = {**RECIPE.to_json(), "snippet_s": "unknown"}
    (work / "tower" / "recipe.json").write_text(json.dumps(recipe))
    fails(NAME, "videos", "-o", "feats", "--vision", "tower", cwd=work, code=3, says="does not say snippet_s")


def test_a_folder_without_videos_is_named(work: Path) -> None:
    fails(NAME, "tower", "-o", "feats", cwd=work, code=3, says="tower: no videos in this folder")
