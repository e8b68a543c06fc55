import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from stale_model.data import usable_features
from stale_model.data.dataset import (
    LeftOut,
    Selection,
    StaleDataset,
    VideoSample,
    collate,
    sample_fraction,
    select_videos,
)
from stale_model.data.splits import read_split
from stale_model.data.targets import video_targets
from stale_runtime.errors import DatasetError, FeatureError
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation, GroundTruth, read_ground_truth
from stale_runtime.inputs.feature_file import FeatureFile, open_features
from stale_runtime.inputs.features import resample
from tests.runtime.helpers import make_fifo, no_waiting, npy_bytes

CHANNELS = 4
CLASSES = ("polo", "archery")
POLO = Annotation("polo", 1, 2)


def video(*annotations: Annotation, duration_s: float | None = 10) -> AnnotatedVideo:
    return AnnotatedVideo(duration_s=duration_s, annotations=annotations)


def snippets(T: int = 6, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((T, CHANNELS)).astype(np.float32)


def select(folder: Path, videos: Mapping[str, AnnotatedVideo]) -> Selection:
    return select_videos(GroundTruth(videos=videos), folder, CLASSES, channels=CHANNELS)


def test_takes_what_can_be_trained_on_and_counts_the_rest(tmp_path: Path) -> None:
    for name in ("v_a", "b", "v_none", "v_timeless", "v_zero", "v_other", "v_mixed"):
        np.save(tmp_path / f"{name}.npy", snippets())
    (tmp_path / "v_broken.npy").write_bytes(b"not an array")
    long_jump = Annotation("long jump", 0, 1)
    selection = select(
        tmp_path,
        {
            "b": video(POLO, Annotation("archery", 3, 4)),
            "a": video(POLO, duration_s=12.5),
            "none": video(),
            "timeless": video(POLO, duration_s=None),
            "zero": video(POLO, duration_s=0),
            "other": video(long_jump),
            "mixed": video(POLO, long_jump),
            "missing": video(POLO),
            "broken": video(POLO),
        },
    )
    assert selection.samples == (
        VideoSample("b", tmp_path / "b.npy", 10, (POLO, Annotation("archery", 3, 4))),
        VideoSample("a", tmp_path / "v_a.npy", 12.5, (POLO,)),
    )
    assert selection.left_out == {
        LeftOut.NO_ANNOTATIONS: ("none",),
        LeftOut.NO_DURATION: ("timeless", "zero"),
        LeftOut.OTHER_LABELS: ("mixed", "other"),
        LeftOut.NO_FEATURES: ("missing",),
        LeftOut.UNUSABLE: ("broken",),
    }
    assert list(selection.problems) == ["broken"]
    assert "v_broken.npy: not a .npy file" in selection.problems["broken"]
    assert str(selection) == (
        "2 of 9 videos; left out: 1 without annotations, 2 without duration, 2 with labels outside the list, "
        "1 without features, 1 with unusable features"
    )


def test_ambiguous_segments_leave_no_video_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        np.save(tmp_path / f"{name}.npy", snippets())
    ambiguous = Annotation("Ambiguous", 0, 1)
    truth = {"a": video(POLO, ambiguous), "b": video(ambiguous), "c": video(ambiguous, Annotation("long jump", 0, 1))}
    selection = select(tmp_path, truth)
    assert [(sample.video, sample.annotations) for sample in selection.samples] == [("a", (POLO, ambiguous))]
    assert selection.left_out == {LeftOut.NO_ANNOTATIONS: ("b",), LeftOut.OTHER_LABELS: ("c",)}


def test_says_nothing_of_reasons_that_no_video_has(tmp_path: Path) -> None:
    np.save(tmp_path / "v_a.npy", snippets())
    assert str(select(tmp_path, {"a": video(POLO)})) == "1 of 1 videos"


def test_two_files_of_one_video_are_refused(tmp_path: Path) -> None:
    for name in ("v_a", "a"):
        np.save(tmp_path / f"{name}.npy", snippets())
    with pytest.raises(FeatureError, match=r"v_a\.npy: the same video id as .*/a\.npy; rename or remove one"):
        select(tmp_path, {"a": video(POLO)})


BROKEN = {
    "wrong_width": (npy_bytes("(2, 3)", bytes(24)), r"shape \(2, 3\), expected \(snippets, 4\)"),
    "transposed": (npy_bytes("(4, 9)", bytes(144)), "transpose it"),
    "rank": (npy_bytes("(4,)", bytes(16)), "shape"),
    "integers": (npy_bytes("(2, 4)", bytes(32), descr="'<i4'"), "type int32"),
    "pickled": (npy_bytes("(2, 4)", b"\x80\x04N.", descr="'|O'"), "pickled objects"),
    "truncated": (npy_bytes("(2, 4)", bytes(8)), "truncated"),
    "too_long": (npy_bytes("(2, 4)", bytes(40)), "too long"),
    "no_snippet": (npy_bytes("(0, 4)", b""), "0 snippets"),
    "header": (b"\x93NUMPY\x01\x00\x04\x00((((", "broken .npy header"),
    "version": (b"\x93NUMPY\x09\x00" + bytes(200), "unknown version"),
    "empty": (b"", "not a .npy file"),
    "archive": (b"PK\x03\x04" + bytes(100), "a broken .npz archive"),
    "huge": (npy_bytes("(99999999999999999, 4)", b""), "expected 1 to"),
    "nan": (npy_bytes("(2, 4)", b"\xff" * 32), "NaN or infinity, .* in 2 of 2 snippets"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_used_is_known_before_training(tmp_path: Path, kind: str) -> None:
    content, match = BROKEN[kind]
    np.save(tmp_path / "v_good.npy", snippets())
    (tmp_path / "v_bad.npy").write_bytes(content)
    selection = select(tmp_path, {"bad": video(POLO), "good": video(POLO)})
    assert [sample.video for sample in selection.samples] == ["good"]
    with pytest.raises(FeatureError, match=match):
        raise FeatureError(selection.problems["bad"])
    assert "\n" not in selection.problems["bad"]


def test_no_id_leads_out_of_the_folder_and_only_files_count(tmp_path: Path) -> None:
    feats = tmp_path / "feats"
    feats.mkdir()
    np.save(tmp_path / "out.npy", snippets())
    np.save(feats / "v_good.npy", snippets())
    (feats / "v_folder.npy").mkdir()
    make_fifo(feats / "v_fifo.npy")
    names = ("../out", "x" * 5000, "nul\0", "")
    no_files = ("fifo", "folder")
    with no_waiting():
        selection = select(feats, {"good": video(POLO), **{name: video(POLO) for name in (*names, *no_files)}})
    assert selection.left_out == {LeftOut.NO_FEATURES: tuple(sorted(names)), LeftOut.UNUSABLE: no_files}


@pytest.mark.parametrize(
    ("videos", "match"),
    [
        ({"a": video(POLO), "b": video()}, "1 without annotations, 1 without features; expected .* v_a.npy"),
        ({"a": video()}, "0 of 1 videos; left out: 1 without annotations; .*such as --train-subset validation"),
        ({"a": video(POLO, duration_s=None)}, "1 without duration; expected durations; give .*JSON .*or --video-info"),
        ({"a": video(Annotation("x", 0, 1))}, "1 with labels outside the list; .*check the split"),
        ({"wide": video(POLO)}, r"1 with unusable features; .*shape \(2, 9\), expected \(snippets, 4\)"),
    ],
)
def test_nothing_left_is_an_error_with_the_counts(
    tmp_path: Path, videos: dict[str, AnnotatedVideo], match: str
) -> None:
    np.save(tmp_path / "v_wide.npy", np.zeros((2, 9), np.float32))
    with pytest.raises(DatasetError, match=match) as caught:
        select(tmp_path, videos)
    assert str(caught.value).startswith(f"{tmp_path}: nothing to train on, 0 of {len(videos)} videos")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="nowhere: No such file or directory; give a folder"):
        select(tmp_path / "nowhere", {"a": video(POLO)})
    (tmp_path / "file").touch()
    with pytest.raises(FeatureError, match="file: Not a directory; give a folder"):
        select(tmp_path / "file", {"a": video(POLO)})


def test_each_file_is_read_once_and_progress_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def open_and_note(path: Path, channels: int) -> AbstractContextManager[FeatureFile]:
        read.append(path.name)
        return open_features(path, channels)

    monkeypatch.setattr(usable_features, "open_features", open_and_note)
    for name in ("a", "b", "other"):
        np.save(tmp_path / f"{name}.npy", snippets())
    watched: list[str] = []

    def watch(samples: Sequence[VideoSample]) -> Iterator[VideoSample]:
        watched.append(f"{len(samples)} in all")
        for sample in samples:
            watched.append(sample.video)
            yield sample

    truth = GroundTruth(videos={"a": video(POLO), "b": video(POLO), "other": video(Annotation("long jump", 0, 1))})
    select_videos(truth, tmp_path, CLASSES, channels=CHANNELS, watch=watch)
    assert watched == ["2 in all", "a", "b"]
    assert read == ["a.npy", "b.npy"]


def some(count: int) -> tuple[VideoSample, ...]:
    return tuple(VideoSample(f"{i:03}", Path(f"{i}.npy"), 10, (POLO,)) for i in range(count))


def ids(samples: tuple[VideoSample, ...]) -> list[str]:
    return [sample.video for sample in samples]


def test_a_sample_is_reproducible_whatever_the_order_of_the_videos() -> None:
    drawn = sample_fraction(some(100), 0.2, seed=1)
    assert len(drawn) == 20
    assert ids(drawn) == sorted(ids(drawn))
    assert sample_fraction(some(100)[::-1], 0.2, seed=1) == drawn
    assert sample_fraction(some(100), 0.2, seed=2) != drawn
    # Recorded once: a study's subsets stay what they were.
    assert ids(sample_fraction(some(10), 0.3, seed=1)) == ["001", "004", "009"]


def test_of_a_seed_the_smaller_sample_is_in_the_larger() -> None:
    parts = [set(ids(sample_fraction(some(50), fraction, seed=3))) for fraction in (0.1, 0.2, 0.5, 1)]
    assert [len(part) for part in parts] == [5, 10, 25, 50]
    assert all(smaller < larger for smaller, larger in pairwise(parts))


def test_at_least_one_and_at_most_all_are_taken() -> None:
    assert len(sample_fraction(some(3), 1e-9, seed=0)) == 1
    assert sample_fraction(some(3), 1, seed=0) == some(3)


def test_every_video_is_as_likely() -> None:
    counts = np.zeros(20)
    for seed in range(2000):
        for name in ids(sample_fraction(some(20), 0.25, seed=seed)):
            counts[int(name)] += 1
    assert counts.sum() == 2000 * 5
    assert np.abs(counts / 2000 - 0.25).max() < 0.04  # four standard deviations


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_fractions_that_are_none_are_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="expected more than 0 and at most 1"):
        sample_fraction(some(3), fraction, seed=0)


def test_nothing_to_sample_from_is_an_error() -> None:
    with pytest.raises(DatasetError, match="no videos"):
        sample_fraction((), 0.5, seed=0)


@pytest.fixture
def dataset(tmp_path: Path) -> StaleDataset:
    """Three videos of different lengths and types."""
    for seed, (name, T, kind) in enumerate((("v_a", 6, np.float16), ("v_b", 1, np.float64), ("c", 30, np.float32))):
        np.save(tmp_path / f"{name}.npy", snippets(T, seed).astype(kind))
    videos = {"a": video(POLO), "b": video(Annotation("archery", 0, 9)), "c": video(POLO, Annotation("polo", 8, 9))}
    return StaleDataset(select(tmp_path, videos).samples, CLASSES, channels=CHANNELS, length=8)


def test_an_item_is_a_resampled_video_with_its_targets(dataset: StaleDataset) -> None:
    assert len(dataset) == 3
    for index, sample in enumerate(dataset.samples):
        features, targets = dataset[index]
        assert features.dtype == torch.float32
        assert np.array_equal(features.numpy(), resample(np.load(sample.path), 8))
        expected = video_targets(sample.annotations, 10, {"polo": 0, "archery": 1}, 8)
        assert all(torch.equal(a, b) for a, b in zip(targets, expected, strict=True))


def test_a_batch_has_an_axis_more(dataset: StaleDataset) -> None:
    features, targets = collate([dataset[0], dataset[2]])
    assert features.shape == (2, 8, CHANNELS)
    assert [tuple(part.shape) for part in targets] == [(2, 8), (2, 2), (2, 8, 8), (2, 8)]
    assert torch.equal(features[1], dataset[2][0])
    assert torch.equal(targets.action_masks[1], dataset[2][1].action_masks)


def test_goes_through_a_data_loader(dataset: StaleDataset) -> None:
    batches = list(DataLoader(dataset, batch_size=2, collate_fn=collate))
    assert [len(features) for features, _ in batches] == [2, 1]
    assert torch.equal(batches[1][1].snippet_classes[0], dataset[2][1].snippet_classes)


def test_can_be_sent_to_another_process(dataset: StaleDataset) -> None:
    copy: StaleDataset = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[0][0], dataset[0][0])


def spoiled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    values[3, 1] = np.nan
    return values


@pytest.mark.parametrize(
    ("content", "match"),
    [(spoiled(snippets()), "v_a.npy: NaN or infinity"), (np.zeros((6, 5), np.float32), "expected .snippets, 4.")],
)
def test_values_are_checked_when_they_are_read(dataset: StaleDataset, content: NDArray[Any], match: str) -> None:
    np.save(dataset.samples[0].path, content)
    with pytest.raises(FeatureError, match=match):
        dataset[0]


def test_a_file_that_went_away_is_named(dataset: StaleDataset) -> None:
    dataset.samples[1].path.unlink()
    with pytest.raises(FeatureError, match=r"v_b\.npy: No such file"):
        dataset[1]


@pytest.mark.reference
def test_selects_the_reference_videos_of_the_seen_classes(reference: Path, activitynet: Path) -> None:
    whole = read_ground_truth(activitynet / "activity_net_20p1.json")
    split = read_split("75-25:0", lists=activitynet / "splits", seen=None, unseen=None, labels=whole.labels)
    truth = read_ground_truth(reference / "ground_truth.json")
    selection = select_videos(truth, reference / "features", split.seen, channels=512)
    seen = (reference / "videos_seen.txt").read_text().split()
    assert sorted(sample.video for sample in selection.samples) == sorted(name.removeprefix("v_") for name in seen)
    assert str(selection) == "48 of 96 videos; left out: 48 with labels outside the list"
