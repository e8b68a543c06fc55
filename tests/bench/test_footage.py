import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_bench.benchmark_inputs import Evaluation, MeasuredVideos, read_evaluation, read_videos
from stale_bench.footage import Footage, group_pieces, join_detections, joined_footage, keep_annotated, random_footage
from stale_runtime.detections import Detection
from stale_runtime.errors import BenchmarkError, FeatureError
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from tests.tiny import CHANNELS

SNIPPETS = {"a": 10, "b": 25, "c": 40, "d": 8, "e": 30}


@pytest.fixture
def pieces(tmp_path: Path) -> MeasuredVideos:
    """Videos whose features are their place in the alphabet and their own snippet."""
    for n, (name, snippets) in enumerate(SNIPPETS.items()):
        features = np.full((snippets, CHANNELS), n, np.float16)
        features[:, 1] = np.arange(snippets)
        np.save(tmp_path / f"v_{name}.npy", features)
    return read_videos(tmp_path, CHANNELS)


@pytest.fixture
def evaluation(tmp_path: Path, pieces: MeasuredVideos) -> Evaluation:
    """Each video lasts three seconds a snippet, and has two actions; one is of a class that all videos have."""
    database = {
        name: {
            "duration": 3 * snippets,
            "annotations": [
                {"label": "polo", "segment": [3.0, 12.0]},
                {"label": f"only {name}", "segment": [6.0, 3.0 * snippets]},
            ],
        }
        for name, snippets in {**SNIPPETS, "without features": 9}.items()
    }
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    return keep_annotated(pieces, read_evaluation(tmp_path / "gt.json", None, pieces))[1]


def join(pieces: MeasuredVideos, evaluation: Evaluation | None, snippets: int, folder: Path, seed: int = 1) -> Footage:
    return joined_footage(pieces, evaluation, snippets, CHANNELS, seed=seed, folder=folder / str(snippets))


@given(
    st.dictionaries(st.text(), st.integers(1, 300), min_size=1, max_size=20), st.integers(1, 500), st.integers(0, 99)
)
def test_each_piece_is_in_one_group_and_only_the_last_group_may_be_short(
    snippets: dict[str, int], wanted: int, seed: int
) -> None:
    groups = group_pieces(snippets, wanted, seed=seed)
    assert sorted(piece for group in groups for piece in group) == sorted(snippets)
    for group in groups[:-1]:
        assert sum(snippets[piece] for piece in group) >= wanted
        assert sum(snippets[piece] for piece in group[:-1]) < wanted  # none is longer than necessary
    assert groups == group_pieces(snippets, wanted, seed=seed)


def test_the_order_depends_on_the_seed() -> None:
    assert len({tuple(group_pieces(SNIPPETS, 1, seed=seed)) for seed in range(9)}) > 1


def test_joined_features_are_those_of_the_pieces_one_after_the_other(pieces: MeasuredVideos, tmp_path: Path) -> None:
    made = join(pieces, None, 50, tmp_path)
    groups = group_pieces(SNIPPETS, 50, seed=1)
    for group, (video, path) in zip(groups, made.videos.files.items(), strict=True):
        expected = np.concatenate([np.load(pieces.files[piece]) for piece in group])
        assert np.array_equal(np.load(path), expected)
        assert made.videos.snippets[video] == len(expected)
    assert sum(made.videos.snippets.values()) == sum(SNIPPETS.values())


def test_a_video_that_is_too_short_is_not_timed(pieces: MeasuredVideos, tmp_path: Path) -> None:
    made = join(pieces, None, 70, tmp_path)
    assert len(made.videos.files) == 2
    assert made.timed == ("joined-1",)
    assert [made.timed_video(launch) for launch in range(3)] == ["joined-1"] * 3
    both = join(pieces, None, 20, tmp_path)
    assert len({both.timed_video(launch) for launch in range(len(both.timed))}) == len(both.timed) > 1


def test_annotations_move_with_their_piece(pieces: MeasuredVideos, evaluation: Evaluation, tmp_path: Path) -> None:
    made = join(pieces, evaluation, 50, tmp_path)
    assert made.evaluation is not None
    assert made.evaluation.durations_s == made.videos.snippets
    for group, (video, known) in zip(
        group_pieces(SNIPPETS, 50, seed=1), made.evaluation.truth.videos.items(), strict=True
    ):
        features = np.load(made.videos.files[video])
        rows = iter(known.annotations)
        for piece, polo, own in zip(group, rows, rows, strict=True):
            n = list(SNIPPETS).index(piece)
            assert (polo.label, own.label) == ("polo", f"only {piece}")
            assert np.array_equal(features[round(polo.start_s) : round(polo.end_s), 0], [n] * 3)
            assert list(features[[round(own.start_s), round(own.end_s) - 1], 1]) == [2, SNIPPETS[piece] - 1]


@pytest.mark.parametrize("snippets", [1, 50, 113])
def test_what_is_joined_perfectly_has_an_map_of_1(
    pieces: MeasuredVideos, evaluation: Evaluation, tmp_path: Path, snippets: int
) -> None:
    joined = join(pieces, evaluation, snippets, tmp_path).evaluation
    assert joined is not None
    perfect = {
        video: [Detection(*row, 0.5) for row in known.annotations] for video, known in joined.truth.videos.items()
    }
    assert mean_average_precision(perfect, joined.truth).average == 1
    shifted = {
        video: [row._replace(start=row.start + 9, end=row.end + 9) for row in rows] for video, rows in perfect.items()
    }
    assert mean_average_precision(shifted, joined.truth).average < 0.5
    count = sum(len(known.annotations) for known in evaluation.truth.videos.values())
    assert sum(map(len, perfect.values())) == count == 2 * len(SNIPPETS)


def test_only_videos_with_features_and_annotations_are_kept(pieces: MeasuredVideos, tmp_path: Path) -> None:
    rows = [{"label": "polo", "segment": [1, 2]}]
    database = {name: {"duration": 9, "annotations": rows} for name in ("a", "c", "x")}
    (tmp_path / "some.json").write_text(json.dumps({"database": database}))
    videos, kept = keep_annotated(pieces, read_evaluation(tmp_path / "some.json", None, pieces))
    assert (
        list(videos.files) == list(videos.snippets) == list(kept.durations_s) == list(kept.truth.videos) == ["a", "c"]
    )
    assert videos.left_out == {f"v_{name}.npy": "not annotated" for name in "bde"}


def test_too_few_snippets_are_an_error_that_says_how_many_there_are(pieces: MeasuredVideos, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"--snippets 114: the 5 videos of --features have 113 snippets"):
        join(pieces, None, 114, tmp_path)
    assert len(join(pieces, None, 113, tmp_path).videos.files) == 1


def test_a_piece_that_has_gone_is_said(pieces: MeasuredVideos, tmp_path: Path) -> None:
    pieces.files["c"].unlink()
    with pytest.raises(FeatureError, match=r"v_c\.npy: No such file"):
        join(pieces, None, 50, tmp_path)


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(BenchmarkError, match=r"No space left on device, expected room for \d+ MB; measure shorter"):
        random_footage(100, CHANNELS, seed=0, folder=tmp_path / "x")


def test_random_footage_is_seeded_and_has_exactly_its_snippets(tmp_path: Path) -> None:
    def made(snippets: int, seed: int) -> NDArray[np.float16]:
        footage = random_footage(snippets, CHANNELS, seed=seed, folder=tmp_path / "x")
        assert (footage.timed, footage.evaluation) == (("random",), None)
        assert footage.videos.snippets == {"random": snippets}
        features: NDArray[np.float16] = np.load(footage.videos.files["random"])
        return features

    features = made(5000, 1)  # of two blocks
    assert features.shape == (5000, CHANNELS)
    assert features.dtype == np.float16
    assert np.allclose(np.linalg.norm(features.astype(float), axis=1), 10, atol=0.02)
    assert np.array_equal(features, made(5000, 1))
    assert not np.array_equal(features, made(5000, 2))
    assert not np.array_equal(features[4096:4100], features[:4])


@pytest.mark.parametrize("snippets", [30, 60, 1000])
def test_what_was_found_in_each_video_keeps_its_map_where_videos_are_joined(
    pieces: MeasuredVideos, evaluation: Evaluation, tmp_path: Path, snippets: int
) -> None:
    found = {
        name: [Detection("polo", 3.0, 8.9 + n, 0.9 - n / 10), Detection(f"only {name}", 6.0, 2.5 * SNIPPETS[name], 0.5)]
        for n, name in enumerate(SNIPPETS)
    }
    footage = join(pieces, evaluation, min(snippets, sum(SNIPPETS.values())), tmp_path)
    joined = join_detections(found, footage.pieces, pieces.snippets, evaluation)
    assert footage.evaluation is not None
    alone = mean_average_precision(found, evaluation.truth)
    together = mean_average_precision(joined, footage.evaluation.truth)
    assert 0.3 < alone.average < 0.9
    assert together.per_tiou == pytest.approx(alone.per_tiou)
