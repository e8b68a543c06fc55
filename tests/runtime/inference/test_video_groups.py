"""Short videos that the network gets together: what is found is what is found in one after the other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime import Localizer, Outcome, Timeline, read_prompts
from stale_runtime.errors import BundleError, OutOfMemoryError, StaleError
from stale_runtime.inference import lengths
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from tests import tiny
from tests.export.approximation import draw_calm_videos, write_fast_bundle

TOLERANCE = 1e-5
"""Of scores. Measured: 4e-8 with ``ort-fast`` on the 96 videos of the reference, 2e-7 with windows off."""
Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def fast_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with an approximate graph, whose guard accepts calm videos."""
    folder = tmp_path_factory.mktemp("fast") / "bundle"
    write_fast_bundle(bundle, folder, tiny.make_network(), limit=0.5)
    return folder


def draw_wild(seed: int = 1) -> Array:
    return 30 * draw_calm_videos(1, 14, seed=seed, deviation=2)[0]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Short videos, calm and wild, a broken one, a long one, one without a duration, and the first again."""
    videos: dict[str, NDArray[Any]] = {
        "calm": draw_calm_videos(1, 14, deviation=0.05)[0],
        "wild": draw_wild(),
        "long": draw_calm_videos(1, 300, deviation=0.05)[0],
        "calm2": draw_calm_videos(1, 20, seed=2, deviation=0.05)[0].astype(np.float16),
        "untimed": draw_wild(),
        "calm3": draw_calm_videos(1, 32, seed=3, deviation=0.05)[0],
    }
    for name, features in videos.items():
        np.save(tmp_path / f"{name}.npy", features)
    (tmp_path / "broken.npy").write_bytes(b"nonsense")
    return [
        tmp_path / f"{name}.npy" for name in ("calm", "wild", "broken", "long", "calm2", "untimed", "calm3", "calm")
    ]


TIMELINE = Timeline(durations_s={"calm": 10, "wild": 20, "broken": 1, "long": 300, "calm2": 30, "calm3": 40})


def count_videos(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many videos the network gets at once, each time."""
    sizes: list[int] = []
    honest = localizer._network.run_videos

    def spy(videos: Any, *args: Any, **options: Any) -> Any:
        sizes.append(len(videos))
        return honest(videos, *args, **options)

    monkeypatch.setattr(localizer._network, "run_videos", spy)
    return sizes


def assert_same(ours: list[Outcome], theirs: list[Outcome]) -> None:
    """Same videos, errors and detections, but for the last digits of scores and curves."""
    assert [outcome.path for outcome in ours] == [outcome.path for outcome in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert (type(our.error), str(our.error)) == (type(their.error), str(their.error))
        if our.error is not None:
            continue
        one, other = our.result(), their.result()
        assert (one.video, one.duration_s, one.window, one.recomputed) == (
            other.video,
            other.duration_s,
            other.window,
            other.recomputed,
        )
        assert [row[:3] for row in one.detections] == [row[:3] for row in other.detections]
        for row, same in zip(one.detections, other.detections, strict=True):
            assert abs(row.score - same.score) <= TOLERANCE
        assert (one.evidence is None) == (other.evidence is None)


@pytest.mark.parametrize("evidence", [False, True])
@pytest.mark.parametrize("decoder", ["standard", "upstream"])
def test_a_list_gives_what_one_after_the_other_gives(
    fast_bundle: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch, decoder: str, evidence: bool
) -> None:
    localizer = Localizer.open(fast_bundle, backend="ort-fast", decoder=decoder)
    assert localizer.group_size > len(paths)
    prompts = localizer.encode_prompts(tiny.CLASSES)
    alone = list(localizer.detect_many(iter(paths), prompts, timeline=TIMELINE, evidence=evidence))
    sizes = count_videos(localizer, monkeypatch)
    together = list(localizer.detect_many(paths, prompts, timeline=TIMELINE, evidence=evidence))
    assert sizes == [4 + (decoder == "upstream")]  # which looks at the long one as a whole, too
    assert_same(together, alone)
    assert [outcome.error is not None for outcome in together] == [False, False, True, False, False, True, False, False]


@pytest.mark.parametrize(("length", "window", "scenes"), [("auto", "off", False), (None, "auto", True)])
def test_other_lengths_and_videos_of_several_scenes_are_left_out(
    fast_bundle: Path,
    paths: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    length: Literal["auto"] | None,
    window: Literal["auto", "off"],
    scenes: bool,
) -> None:
    if scenes:
        monkeypatch.setattr(lengths, "shows_one_scene", lambda _: False)
    localizer = Localizer.open(fast_bundle, backend="ort-fast", length=length, window=window)
    alone = list(localizer.detect_many(iter(paths), tiny.CLASSES, timeline=TIMELINE))
    sizes = count_videos(localizer, monkeypatch)
    assert_same(list(localizer.detect_many(paths, tiny.CLASSES, timeline=TIMELINE)), alone)
    assert sizes == [2 if scenes else 4]


def test_only_the_video_that_deviates_is_computed_exactly_bit_for_bit(fast_bundle: Path, paths: list[Path]) -> None:
    fast, exact = (Localizer.open(fast_bundle, backend=name) for name in ("ort-fast", "ort-fp32"))
    calm, wild, again = fast.detect_many([paths[0], paths[1], paths[4]], tiny.CLASSES)
    assert [outcome.result().recomputed for outcome in (calm, wild, again)] == [0, 1, 0]
    assert wild.result().detections == exact.detect_file(paths[1], tiny.CLASSES).detections


def test_a_group_is_no_larger_than_its_size(
    fast_bundle: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer = Localizer.open(fast_bundle, backend="ort-fast")
    localizer._group_snippets = 2 * tiny.LENGTH + 1
    sizes = count_videos(localizer, monkeypatch)
    list(localizer.detect_many(paths, tiny.CLASSES, timeline=TIMELINE))
    assert sizes == [2, 2]  # of (calm, wild), (broken, long), (calm2, untimed), (calm3, calm)


def test_with_a_time_limit_and_with_exact_backends_videos_stay_alone(fast_bundle: Path) -> None:
    assert Localizer.open(fast_bundle, backend="ort-fast", timeout_s=10).group_size == 1
    assert Localizer.open(fast_bundle, backend="ort-fast", length=500).group_size == 1
    assert Localizer.open(fast_bundle, backend="ort-fp32").group_size == 1


@pytest.mark.parametrize("problem", [BundleError("broken"), OutOfMemoryError("no more"), MemoryError()])
def test_a_group_that_fails_is_looked_at_one_by_one(
    fast_bundle: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch, problem: StaleError | MemoryError
) -> None:
    localizer = Localizer.open(fast_bundle, backend="ort-fast")
    alone = list(localizer.detect_many(iter(paths), tiny.CLASSES, timeline=TIMELINE))

    def fail(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(localizer._network, "run_videos", fail)
    assert_same(list(localizer.detect_many(paths, tiny.CLASSES, timeline=TIMELINE)), alone)


def test_a_group_without_memory_is_looked_at_one_by_one(
    fast_bundle: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer = Localizer.open(fast_bundle, backend="ort-fast")
    asked: list[int] = []

    def refuse(*_: object, windows: int = 1) -> None:
        asked.append(windows)
        if windows > 2:  # those of long videos
            raise OutOfMemoryError("too many")

    monkeypatch.setattr(localizer._network, "require_memory", refuse)
    sizes = count_videos(localizer, monkeypatch)
    outcomes = list(localizer.detect_many(paths, tiny.CLASSES, timeline=TIMELINE))
    assert asked[0] == 4
    assert not sizes
    assert sum(outcome.error is None for outcome in outcomes) == 6


def test_what_no_list_has_is_not_waited_for(fast_bundle: Path, paths: list[Path]) -> None:
    localizer = Localizer.open(fast_bundle, backend="ort-fast")
    asked: list[Path] = []

    def arriving() -> Iterator[Path]:
        for path in paths:
            asked.append(path)
            yield path

    next(localizer.detect_many(arriving(), tiny.CLASSES, timeline=TIMELINE))
    assert asked == paths[:1]


@pytest.mark.reference
def test_groups_change_nothing_at_full_size(reference: Path, reference_bundle: Path) -> None:
    """With the exact float graph, which every machine has; the approximate one takes minutes to export."""
    localizer = Localizer.open(reference_bundle, backend="ort-fp32")
    paths = sorted((reference / "features").glob("*.npy"))[::3]
    prompts = localizer.encode_prompts(read_prompts(reference / "classes.txt"))
    alone = list(localizer.detect_many(paths, prompts))
    localizer._group_snippets = LOCALIZER_BACKENDS["ort-fast"].group_snippets
    assert localizer.group_size == 8
    assert_same(list(localizer.detect_many(paths, prompts)), alone)
