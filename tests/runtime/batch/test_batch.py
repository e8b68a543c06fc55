import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime import Localizer
from stale_runtime.batch import batch as batch_module
from stale_runtime.batch.batch import Batch, BatchRun
from stale_runtime.batch.found_files import find_files
from stale_runtime.batch.journal import Journal
from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.errors import FeatureError, OutOfMemoryError
from stale_runtime.exit_codes import SOME_FAILED
from stale_runtime.inference.localizer import NO_TIMELINE
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inputs.feature_origin import FeatureOrigin, sidecar_path
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.inputs.timeline import Timeline
from tests import tiny

FOUND = VideoDetections(video="a", duration_s=None, detections=(Detection("polo", 0.0, 0.5, 0.9),))
GOOD = Outcome(Path("a.npy"), FOUND, None)
BAD = Outcome(Path("b.npy"), None, FeatureError("b.npy: broken"))
LATE = Outcome(Path("c.npy"), None, OutOfMemoryError("c.npy: too much"))


def batch(*outcomes: Outcome, more: int = 0, fail_fast: bool = False) -> Batch:
    paths = [*(outcome.path for outcome in outcomes), *(Path(f"{n}.npy") for n in range(more))]
    return Batch(paths=tuple(paths), outcomes=outcomes, fail_fast=fail_fast)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (batch(GOOD), 0),
        (batch(GOOD, GOOD), 0),
        (batch(GOOD, BAD), SOME_FAILED),
        (batch(BAD, GOOD, LATE), SOME_FAILED),
        (batch(BAD), FeatureError.exit_code),
        (batch(BAD, LATE), FeatureError.exit_code),
        (batch(GOOD, BAD, more=1, fail_fast=True), FeatureError.exit_code),
        (batch(GOOD, BAD, fail_fast=True), FeatureError.exit_code),
    ],
)
def test_the_exit_code_tells_some_from_none(made: Batch, code: int) -> None:
    assert made.exit_code == code
    assert made.found == [outcome.detections for outcome in made.outcomes if outcome.error is None]
    assert made.problems == [outcome.error for outcome in made.outcomes if outcome.error is not None]
    assert made.stopped == (len(made.paths) > len(made.outcomes))


def test_files_and_folders_are_taken_in_order(tmp_path: Path) -> None:
    for name in ("v_b.npy", "a.npy", "c.txt"):
        (tmp_path / name).touch()
    alone = tmp_path / "elsewhere.npy"
    found = find_files([alone, tmp_path])
    assert [path.name for path in found] == ["elsewhere.npy", "a.npy", "v_b.npy"]


def test_hidden_files_are_none_of_them(tmp_path: Path) -> None:
    for name in ("a.npy", "._a.npy", ".npy"):
        (tmp_path / name).touch()
    assert find_files([tmp_path]) == [tmp_path / "a.npy"]


def test_a_path_that_cannot_be_looked_at_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "a.npy").touch()
    paths = [tmp_path / "a.npy", tmp_path / "a.npy" / "b.npy", tmp_path / f"{'x' * 300}.npy", Path("nul\0.npy")]
    assert find_files(paths) == paths


def test_names_that_differ_in_bytes_that_are_no_text_are_of_two_videos(tmp_path: Path) -> None:
    paths = [tmp_path / os.fsdecode(name) for name in (b"a\xfe.npy", b"a\xff.npy")]
    assert find_files(paths) == paths


def test_a_folder_without_features_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"no \.npy files or videos in this folder"):
        find_files([tmp_path])


@pytest.mark.parametrize("other", ["v_a.npy", "more/a.npy"])
def test_two_files_of_one_video_are_refused(tmp_path: Path, other: str) -> None:
    (tmp_path / "more").mkdir()
    paths = [tmp_path / "a.npy", tmp_path / other]
    with pytest.raises(FeatureError, match=r"the same video id as .*rename one of them, or leave it out"):
        find_files(paths)


def test_evidence_comes_with_what_is_detected_now_but_not_from_a_journal(
    bundle: Path, features: NDArray[np.float32], tmp_path: Path
) -> None:
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, features)
    localizer = Localizer.open(bundle)
    prompts = localizer.encode_prompts(tiny.CLASSES)
    paths = tuple(find_files([tmp_path]))
    plain, asked = (
        BatchRun(localizer=localizer, prompts=prompts, paths=paths, timeline=NO_TIMELINE, top=2, evidence=evidence)
        for evidence in (False, True)
    )
    assert plain.journal_settings() == asked.journal_settings()
    with Journal(tmp_path / "journal", plain.journal_settings(), resume=False) as journal:
        first = next(plain.detect(journal, {}))
    with Journal(tmp_path / "journal", asked.journal_settings(), resume=True) as journal:
        old, new = asked.detect(journal, asked.finished(journal))
    assert first.evidence is old.evidence is None
    assert first.detections == old.detections
    assert new.evidence is not None
    assert new.evidence.class_scores is not None
    assert len(new.result()) == 2


def write_pair(folder: Path, name: str = "a", *, source: bytes = b"a video") -> tuple[Path, Path]:
    """A video, and features that say they were made from a video with that content."""
    video, features = folder / f"{name}.mp4", folder / f"{name}.npy"
    video.write_bytes(b"a video")
    features.touch()
    digest = hashlib.sha256(source).hexdigest()
    origin = FeatureOrigin(recipe=FeatureRecipe(), duration_s=1, snippets=1, source_sha256=digest)
    sidecar_path(features).write_bytes(origin.to_bytes())
    return video, features


def test_features_are_taken_instead_of_the_video_that_they_were_made_from(tmp_path: Path) -> None:
    video, features = write_pair(tmp_path)
    (tmp_path / "b.mp4").touch()
    for given in ([tmp_path], [features, video, tmp_path / "b.mp4"]):
        said: list[str] = []
        assert find_files(given, say=said.append) == [features, tmp_path / "b.mp4"]
        assert said == [f"{features} is taken instead of {video}, which it was made from"]
    write_pair(tmp_path, "v_b")
    (tmp_path / "b.mp4").unlink()
    assert find_files([tmp_path], say=said.append) == [features, tmp_path / "v_b.npy"]
    assert said[1:] == [f"{features} and 1 more are taken instead of the videos that they were made from"]


def test_features_of_another_video_are_not_taken(tmp_path: Path) -> None:
    video, features = write_pair(tmp_path, source=b"another video")
    says = (
        r"a\.npy: the same video id as .*a\.mp4, and a\.recipe\.json says it was made from another video; rename one if"
    )
    with pytest.raises(FeatureError, match=says):
        find_files([tmp_path])
    sidecar_path(features).write_text("{")
    with pytest.raises(FeatureError, match=r"and .*a\.recipe\.json: not valid JSON .*; rename one if"):
        find_files([tmp_path])
    sidecar_path(features).unlink()
    with pytest.raises(FeatureError, match=r"and there is no a\.recipe\.json to show .*; rename one if"):
        find_files([video, features])


def test_two_videos_with_one_id_are_refused_although_one_has_features(tmp_path: Path) -> None:
    write_pair(tmp_path)
    (tmp_path / "a.webm").touch()
    with pytest.raises(FeatureError, match=r"a\.webm: the same video id as .*a\.npy, and a\.recipe\.json says it was"):
        find_files([tmp_path])


@pytest.fixture
def grouped(bundle: Path, features: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchRun:
    """A run over four videos in groups of three; the features of the second are broken."""
    for name in ("a.npy", "c.npy", "d.npy"):
        np.save(tmp_path / name, features[:20])
    (tmp_path / "b.npy").write_bytes(b"nonsense")
    localizer = Localizer.open(bundle)
    monkeypatch.setattr(batch_module, "group_size", lambda _: 3)
    prompts = localizer.encode_prompts(tiny.CLASSES)
    return BatchRun(localizer=localizer, prompts=prompts, paths=tuple(find_files([tmp_path])), timeline=NO_TIMELINE)


def test_of_a_group_the_journal_has_what_was_reached(grouped: BatchRun, tmp_path: Path) -> None:
    reached = []
    with Journal(tmp_path / "journal", grouped.journal_settings(), resume=False) as journal:
        for outcome in grouped.detect(journal, {}):
            reached.append(outcome)
            assert len(journal) == sum(known.error is None for known in reached)
    assert [outcome.path.name for outcome in reached] == ["a.npy", "b.npy", "c.npy", "d.npy"]
    assert [outcome.error is None for outcome in reached] == [True, False, True, True]
    with Journal(tmp_path / "journal", grouped.journal_settings(), resume=True) as journal:
        finished = grouped.finished(journal)
    assert [path.name for path in finished] == ["a.npy", "c.npy", "d.npy"]


def test_what_is_finished_is_not_looked_at_again_in_a_group(grouped: BatchRun, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = {grouped.paths[0]: FOUND}
    looked: list[Path] = []
    honest = Localizer.detect_many

    def spy(localizer: Localizer, paths: list[Path], *args: object, **options: object) -> object:
        looked.extend(paths)
        return honest(localizer, paths, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Localizer, "detect_many", spy)
    outcomes = list(grouped.detect(None, finished))
    assert outcomes[0].detections == FOUND
    assert [path.name for path in looked] == ["b.npy", "c.npy", "d.npy"]
    assert [outcome.detections and outcome.detections.video for outcome in outcomes] == ["a", None, "c", "d"]


def test_the_first_error_of_a_group_ends_a_run_that_shall_fail_fast(grouped: BatchRun, tmp_path: Path) -> None:
    run = replace(grouped, fail_fast=True)
    with Journal(tmp_path / "journal", run.journal_settings(), resume=False) as journal:
        outcomes = list(run.detect(journal, {}))
        assert len(journal) == 1
    assert [outcome.error is None for outcome in outcomes] == [True, False]


def test_videos_among_feature_files_keep_their_place(grouped: BatchRun, tmp_path: Path) -> None:
    (tmp_path / "bb.mp4").write_bytes(b"no video")
    paths = (grouped.paths[0], tmp_path / "bb.mp4", *grouped.paths[2:])
    run = replace(grouped, paths=paths, timeline=Timeline(durations_s={"a": 1, "c": 3, "d": 4}))
    outcomes = list(run.detect(None, {}))
    assert [outcome.path for outcome in outcomes] == list(run.paths)
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, True]
