import json
from pathlib import Path

import numpy as np
import pytest

from stale_bench.benchmark_inputs import (
    MeasuredVideos,
    random_features,
    read_classes,
    read_encoded,
    read_evaluation,
    read_videos,
    video_features,
    write_encoded,
)
from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import pack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BundleError, DatasetError, FeatureError, PromptError
from stale_runtime.inference.forward_pass import EncodedPrompts
from tests.bench.helpers import make_job
from tests.runtime.helpers import with_file
from tests.tiny import CHANNELS, CLASSES


def test_random_features_are_seeded_and_as_long_as_clip_s() -> None:
    features = random_features(30, 16, seed=1)
    assert features.shape == (30, 16)
    assert features.dtype == np.float32
    assert np.allclose(np.linalg.norm(features, axis=1), 10, atol=1e-4)
    assert np.array_equal(features, random_features(30, 16, seed=1))
    assert not np.array_equal(features, random_features(30, 16, seed=2))


def test_a_worker_s_video_is_its_file_or_random(bundle: Path, tmp_path: Path) -> None:
    array = np.full((5, CHANNELS), 2, np.float16)
    np.save(tmp_path / "a.npy", array)
    job = make_job(bundle, tmp_path, features=str(tmp_path / "a.npy"))
    assert np.array_equal(video_features(job, CHANNELS), array)
    assert video_features(make_job(bundle, tmp_path), CHANNELS).shape == (24, CHANNELS)


def test_classes_are_the_bundle_s_own_unless_given(bundle: Path, tmp_path: Path) -> None:
    assert read_classes(Bundle(bundle), None).names == CLASSES
    (tmp_path / "p.txt").write_text("snooker\n")
    assert read_classes(Bundle(bundle), tmp_path / "p.txt").names == ("snooker",)
    with pytest.raises(PromptError, match="No such file"):
        read_classes(Bundle(bundle), tmp_path / "q.txt")


def test_a_bundle_without_prompts_says_so(bundle: Path, tmp_path: Path) -> None:
    empty = with_file(bundle, tmp_path / "b", layout.PROMPTS, pack_arrays({"texts": np.array([], dtype=str)}))
    with pytest.raises(BundleError, match="give --prompts"):
        read_classes(Bundle(empty), None)


def test_videos_are_all_checked_and_a_broken_one_is_left_out_by_name(tmp_path: Path) -> None:
    for name in ("v_b", "a"):
        np.save(tmp_path / f"{name}.npy", np.ones((5, CHANNELS), np.float32))
    np.save(tmp_path / "nan.npy", np.full((5, CHANNELS), np.nan))
    (tmp_path / "c.npy").write_bytes(b"nonsense")
    videos = read_videos(tmp_path, CHANNELS)
    assert videos.files == {"a": tmp_path / "a.npy", "b": tmp_path / "v_b.npy"}
    assert videos.snippets == {"a": 5, "b": 5}
    assert list(videos.left_out) == ["c.npy", "nan.npy"]
    assert videos.left_out["c.npy"].startswith("not a .npy file")
    assert videos.left_out["nan.npy"].startswith("NaN or infinity")


def test_a_folder_without_usable_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"--features .*: no \.npy files"):
        read_videos(tmp_path, CHANNELS)
    with pytest.raises(FeatureError, match=r"--features .*: No such file"):
        read_videos(tmp_path / "x", CHANNELS)
    (tmp_path / "c.npy").write_bytes(b"nonsense")
    with pytest.raises(FeatureError, match=r"none of 1 files can be used; c\.npy: not a \.npy file"):
        read_videos(tmp_path, CHANNELS)


def test_encoded_prompts_are_kept_for_workers(tmp_path: Path) -> None:
    prompts = EncodedPrompts(("a", "ß"), np.ones((2, 3), np.float32), np.zeros((2, 6), np.float32))
    write_encoded(tmp_path, prompts)
    read = read_encoded(tmp_path)
    assert read.names == prompts.names
    assert np.array_equal(read.embeddings, prompts.embeddings)
    assert np.array_equal(read.queries, prompts.queries)


def annotated(path: Path, **videos: float | None) -> Path:
    rows = [{"label": "polo", "segment": [1, 2]}]
    known = {name: {"subset": "validation", "duration": s, "annotations": rows} for name, s in videos.items()}
    path.write_text(json.dumps({"database": known}))
    return path


def videos(*names: str) -> MeasuredVideos:
    return MeasuredVideos(files={name: Path("feats", f"v_{name}.npy") for name in names})


def test_evaluation_takes_the_videos_that_have_both(tmp_path: Path) -> None:
    truth = annotated(tmp_path / "gt.json", a=10.0, b=20.0)
    evaluation = read_evaluation(truth, None, videos("a", "c"))
    assert evaluation.durations_s == {"a": 10.0}
    assert evaluation.truth.videos.keys() == {"a", "b"}


def test_video_info_says_the_subsets_of_annotations_without(tmp_path: Path) -> None:
    rows = [{"label": "polo", "segment": [1, 2]}]
    known = {f"v_{name}": {"duration_second": 10, "annotations": rows} for name in "ab"}
    (tmp_path / "gt.json").write_text(json.dumps(known))
    (tmp_path / "info.csv").write_text("video,subset,seconds\nv_a,validation,10\nv_b,training,10\n")
    with pytest.raises(DatasetError, match="give --video-info FILE"):
        read_evaluation(tmp_path / "gt.json", "validation", videos("a", "b"))
    evaluation = read_evaluation(tmp_path / "gt.json", "validation", videos("a", "b"), tmp_path / "info.csv")
    assert evaluation.truth.videos.keys() == evaluation.durations_s.keys() == {"a"}


def test_annotations_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    truth = annotated(tmp_path / "gt.json", a=10.0, b=None)
    with pytest.raises(DatasetError, match="no video in common with --features feats"):
        read_evaluation(truth, None, videos("c"))
    with pytest.raises(DatasetError, match="video 'b' has no duration"):
        read_evaluation(truth, None, videos("b"))
    with pytest.raises(DatasetError, match="no video of subset 'test'"):
        read_evaluation(truth, "test", videos("a"))
    (tmp_path / "gt.json").write_text('{"database": {"a": {"subset": "x", "annotations": []}}}')
    with pytest.raises(DatasetError, match="no annotation"):
        read_evaluation(tmp_path / "gt.json", None, videos("a"))
