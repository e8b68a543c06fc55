"""``examples/``: small, loadable on this machine, and with the detections that its documentation promises."""

import hashlib
import json
from pathlib import Path

import pytest

from stale_runtime import read_prompts
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.bundle_check import self_test
from tests.cli.same_process import run

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
VIDEOS = ("washing_a_car", "painting_a_dog")
LARGEST = 4_000_000
TIMES_S, SCORES = 0.5, 0.03
"""How far other CPUs may be off: a snippet, and what one int8 step changes."""
COMPARED = 0.4
"""Score from which on detections are compared, about that from which on stale-run shows them. None is near it."""


def test_the_examples_are_small() -> None:
    assert sum(path.stat().st_size for path in EXAMPLES.rglob("*") if path.is_file()) <= LARGEST


def test_nothing_tells_of_the_machine_that_the_examples_were_made_on() -> None:
    for path in (path for path in EXAMPLES.rglob("*") if path.is_file()):
        assert not [word for word in (b"site-packages", b'File "/') if word in path.read_bytes()], path


def test_the_bundle_is_the_recorded_one_and_passes_its_self_test() -> None:
    recorded = json.loads((EXAMPLES / "detections.json").read_text())["run"]["bundle_sha256"]
    with Bundle(EXAMPLES / "bundle", expect_sha256=recorded) as bundle:
        failed = [check for check in self_test(bundle) if not check.passed]
    assert failed == []


def test_what_is_found_is_what_was_recorded(tmp_path: Path) -> None:
    done = run(
        "stale-run",
        *(EXAMPLES / f"{video}.mp4" for video in VIDEOS),
        *("--bundle", EXAMPLES / "bundle", "--prompts", EXAMPLES / "classes.txt", "--no-cache"),
        *("--format", "json", "-o", "found.json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found, recorded = (
        json.loads(path.read_text())["results"] for path in (tmp_path / "found.json", EXAMPLES / "detections.json")
    )
    assert found.keys() == recorded.keys() == set(VIDEOS)
    for video in VIDEOS:
        ours, theirs = (
            sorted((row["segment"], row["score"], row["label"]) for row in rows[video] if row["score"] >= COMPARED)
            for rows in (found, recorded)
        )
        assert [label for _, _, label in ours] == [label for _, _, label in theirs]
        for (segment, score, _), (recorded_segment, recorded_score, _) in zip(ours, theirs, strict=True):
            assert segment == pytest.approx(recorded_segment, abs=TIMES_S)
            assert score == pytest.approx(recorded_score, abs=SCORES)


def test_one_video_shows_a_seen_class_and_the_other_an_unseen_one() -> None:
    demo_classes = pytest.importorskip("stale_model.demo.demo_classes")
    truth = json.loads((EXAMPLES / "truth.json").read_text())["database"]
    labels = [{row["label"] for row in truth[video]["annotations"]} for video in VIDEOS]
    assert labels[0] <= set(demo_classes.SEEN)
    assert labels[1] <= set(demo_classes.UNSEEN)
    assert read_prompts(EXAMPLES / "classes.txt").names == demo_classes.SPLITS["all"]


def test_the_readme_has_the_hashes_of_what_is_there() -> None:
    text = (EXAMPLES / "README.md").read_text()
    files = [EXAMPLES / "bundle" / "manifest.json", *(EXAMPLES / f"{video}.mp4" for video in VIDEOS)]
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() in text, path
