import math
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_runtime import Detection, Localizer, Timeline
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.decoding.decoders import CLOSED_SET_PROMPTS, NEUTRAL
from stale_runtime.evidence import MOST_CLASSES, MOST_POINTS, ClassScores
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, backend_problem
from stale_runtime.inference.forward_pass import Outputs
from stale_runtime.inference.score_curves import WindowCurves, pick_curves, whole_curves
from stale_runtime.inference.stream import Forward, StreamDecoder
from stale_runtime.inference.windows import LARGEST, SHORTEST, Window
from stale_runtime.segments import FloatArray
from tests import tiny
from tests.runtime.inference.synthetic_videos import POSITION, SeeingNetwork, draw_scenes, plant

Features = NDArray[np.float32]
NAMES = ("archery", "long jump", "polo")


def softmax(logits: FloatArray) -> FloatArray:
    """Over the rows, in double precision."""
    raised = np.exp(logits.astype(np.float64))
    return np.asarray(raised / raised.sum(axis=0))


def highest_of_stretches(scores: FloatArray, points: int) -> FloatArray:
    """The highest of each of so many equal parts of the columns, one after the other."""
    borders = np.arange(points + 1) * scores.shape[1] / points
    parts = [scores[:, math.floor(a) : max(math.ceil(b), math.floor(a) + 1)] for a, b in pairwise(borders)]
    return np.stack([part.max(axis=1) for part in parts], axis=1)


def joined_curves(
    network: Forward,
    features: FloatArray,
    *,
    classes: int = 3,
    largest: int = LARGEST,
    length: int = 100,
    piece: int = 1000,
) -> FloatArray:
    """The curves of a video that is looked at through windows."""
    curves = WindowCurves(classes, len(features))
    names = [f"class {k}" for k in range(classes)]
    decoder = StreamDecoder(network, names, length, largest=largest, curves=curves)
    for n in range(0, len(features), piece):
        list(decoder.push(features[n : n + piece]))
    list(decoder.finish())
    return curves.finish()


def with_waves(lengths: Sequence[int], seed: int = 0) -> Features:
    """Scenes in which the marks of three classes come and go slowly."""
    scenes, _ = draw_scenes(lengths, seed=seed)
    video = plant(scenes, [], 3)
    t = np.arange(len(video))
    video[:, :3] = 0.5 + 0.4 * np.sin(t[:, None] * 2 * np.pi / np.array([310, 450, 700]) + np.arange(3))
    return video


@pytest.mark.parametrize("largest", [SHORTEST, 200, LARGEST])
@pytest.mark.parametrize("lengths", [(90,), (400,), (512,), (513,), (700, 180, 600), (2600, 400, 1120), (6000,)])
def test_joined_curves_show_what_the_network_saw_at_each_time(lengths: Sequence[int], largest: int) -> None:
    video = with_waves(lengths)
    found = joined_curves(SeeingNetwork(3), video, largest=largest)
    logits = np.vstack([12 * video[:, :3].T, np.full(len(video), 6.0)])
    expected = highest_of_stretches(softmax(logits)[:3], min(len(video), MOST_POINTS))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.06)
    late = np.abs(np.roll(expected, -12, axis=1) - expected)[:, :-12]
    assert late.max() > 0.15, "curves that are late would not be noticed"


@settings(max_examples=10)
@given(
    st.lists(st.integers(10, 600), min_size=1, max_size=4),
    st.sampled_from([SHORTEST, 90, 200, LARGEST]),
    st.integers(1, 2000),
)
def test_every_moment_has_a_score_and_the_pieces_do_not_matter(lengths: list[int], largest: int, piece: int) -> None:
    scenes, _ = draw_scenes(lengths)
    video = plant(scenes, [], 3)

    def constant(batch: Features) -> Iterator[Outputs]:
        for _ in batch:
            T = batch.shape[1]
            logits = np.array([[2.0], [1.0], [0.0], [1.0]], np.float32).repeat(T, axis=1)
            yield Outputs(logits, FullMasks(np.eye(T)))

    found = joined_curves(constant, video, largest=largest, length=16, piece=piece)
    expected = softmax(np.array([[2.0], [1.0], [0.0], [1.0]]))[:3]
    np.testing.assert_allclose(found, expected.repeat(min(len(video), MOST_POINTS), axis=1), rtol=0, atol=1e-6)
    waves = with_waves(lengths)
    first, again = (joined_curves(SeeingNetwork(3), waves, largest=largest, length=16, piece=p) for p in (piece, 10**6))
    np.testing.assert_array_equal(first, again)


def test_curves_do_not_jump_where_a_window_begins_or_ends() -> None:
    """Windows that disagree wherever they overlap: each says that a class becomes surer from its start to its end."""
    video = plant(draw_scenes((5000,))[0], [], 1)

    def ramp(batch: Features) -> Iterator[Outputs]:
        for _ in batch:
            T = batch.shape[1]
            logits = np.stack([np.linspace(-2, 2, T, dtype=np.float32), np.zeros(T, np.float32)])
            yield Outputs(logits, FullMasks(np.eye(T)))

    (curve,) = joined_curves(ramp, video, classes=1)
    assert curve.max() - curve.min() > 0.4
    assert np.abs(np.diff(curve)).max() < 0.04


def test_a_short_action_in_hours_of_footage_stays_visible() -> None:
    video = plant(draw_scenes((50_000,))[0], [(1, 31_000, 31_012)], 3)
    found = joined_curves(SeeingNetwork(3), video, length=100)
    assert found.shape == (3, MOST_POINTS)
    assert found[1].argmax() == 31_006 * MOST_POINTS // 50_000
    assert found[1].max() > 0.9
    assert np.partition(found[1], -3)[-3] < 0.1


def test_memory_does_not_grow_with_the_video() -> None:
    logits = np.random.default_rng(0).standard_normal((101, 50)).astype(np.float32)
    peaks = []
    for snippets in (30_000, 300_000):
        tracemalloc.start()
        curves = WindowCurves(100, snippets)
        for start in range(0, snippets - LARGEST + 1, LARGEST // 2):
            curves.settle(start - LARGEST)
            curves.add(Window(start, start + LARGEST, False, False), logits)
        curves.finish()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 8e6


@pytest.mark.parametrize("length", [1, 100, MOST_POINTS, MOST_POINTS + 1, 700, 2 * MOST_POINTS, 3000])
def test_curves_of_a_whole_video_have_its_positions_or_the_highest_of_each_stretch(length: int) -> None:
    logits = np.random.default_rng(length).standard_normal((4, length)).astype(np.float32)
    found = whole_curves(logits)
    expected = softmax(logits)[:3]
    if length <= MOST_POINTS:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        return
    borders = np.rint(np.arange(MOST_POINTS + 1) * length / MOST_POINTS + 1e-9).astype(int)
    middles = (np.arange(MOST_POINTS) + 0.5) * length / MOST_POINTS  # what pick_curves gives as times
    assert np.abs((borders[1:] + borders[:-1]) / 2 - middles).max() <= 0.5
    stretches = [expected[:, start:end].max(axis=1) for start, end in pairwise(borders)]
    np.testing.assert_allclose(found, np.stack(stretches, axis=1), rtol=0, atol=1e-6)


def pick(labels: Sequence[str], names: Sequence[str], curves: FloatArray | None = None) -> ClassScores:
    found = [Detection(label, 0, 1, 1 - n / 1000) for n, label in enumerate(labels)]
    drawn = np.random.default_rng(0).random((len(names), 10)) if curves is None else curves
    return pick_curves(drawn, names, found, 20.0)


def test_the_classes_of_the_best_detections_are_picked() -> None:
    names = [f"class {k}" for k in range(20)]
    labels = [names[k] for k in (7, 3, 7, 3, 9, *range(20))]
    found = pick(labels, names)
    assert found.labels == tuple(names[k] for k in (7, 3, 9, 0, 1, 2, 4, 5))
    assert len(found.labels) == MOST_CLASSES
    np.testing.assert_array_equal(found.scores, np.random.default_rng(0).random((20, 10))[[7, 3, 9, 0, 1, 2, 4, 5]])
    np.testing.assert_allclose(found.times, np.arange(10) * 2 + 1)
    assert pick([names[4]] * 3, names).labels == (names[4],)


def test_without_detections_the_highest_means_are_picked_but_not_what_is_never_reported() -> None:
    names = [f"class {k}" for k in range(CLOSED_SET_PROMPTS - 1)] + [NEUTRAL]
    curves = np.zeros((CLOSED_SET_PROMPTS, 10))
    curves[[200, 5, 9]] = np.array([[0.9], [0.5], [0.6]])
    assert pick([], names, curves).labels[:2] == (names[9], names[5])
    assert NEUTRAL not in pick([], names, curves).labels
    assert pick([], ["one"]).labels == ("one",)


@pytest.mark.parametrize("backend", LOCALIZER_BACKENDS)
@pytest.mark.parametrize("length", [None, 50, 600])
def test_curves_are_computed_from_the_outputs_of_every_backend(
    int8_bundle: Path, features: Features, backend: str, length: int | None
) -> None:
    problem = backend_problem(LOCALIZER_BACKENDS[backend], Bundle(int8_bundle).manifest)
    if problem is not None or LOCALIZER_BACKENDS[backend].file not in Bundle(int8_bundle).manifest.files:
        pytest.skip(str(problem or "the bundle has no such graph"))
    localizer = Localizer.open(int8_bundle, backend=backend, length=length, window="off")
    prompts = localizer.encode_prompts(tiny.CLASSES)
    found = localizer.detect(features, prompts, duration_s=30, evidence=True)
    assert found.evidence is not None
    assert found.evidence.poster == ()
    shown = found.evidence.class_scores
    assert shown is not None
    assert shown.labels == tuple(dict.fromkeys(row.label for row in found))
    T = localizer.length_for(len(features))
    scores = softmax(localizer.outputs(features, prompts).cas_logits)[
        [tiny.CLASSES.index(name) for name in shown.labels]
    ]
    assert shown.scores.shape == (len(shown.labels), min(T, MOST_POINTS))
    if T <= MOST_POINTS:
        np.testing.assert_allclose(shown.scores, scores, rtol=0, atol=1e-5)
        np.testing.assert_allclose(shown.times, (np.arange(T) + 0.5) * 30 / T)
    assert shown.scores.max() == pytest.approx(scores.max(), abs=1e-5)


@pytest.mark.parametrize("snippets", [1, 20, 32, 40, 1500])
@pytest.mark.parametrize("options", [{}, {"window": 64}, {"decoder": "upstream"}])
def test_detections_are_the_same_with_and_without_evidence(
    bundle: Path, tmp_path: Path, snippets: int, options: dict[str, object]
) -> None:
    localizer = Localizer.open(bundle, **options)  # type: ignore[arg-type]
    np.save(tmp_path / "a.npy", np.random.default_rng(snippets).standard_normal((snippets, tiny.CHANNELS), np.float32))
    for timeline, end in ((Timeline(), 1), (Timeline(duration_s=77), 77)):
        without, found = (
            localizer.detect_file(tmp_path / "a.npy", tiny.CLASSES, timeline=timeline, evidence=evidence)
            for evidence in (False, True)
        )
        assert found == without
        assert repr(found) == repr(without)
        assert found.to_json() == without.to_json()
        assert without.evidence is None
        assert found.evidence is not None
        assert found.evidence.class_scores is not None
        _, times, scores = vars(found.evidence.class_scores).values()
        assert 1 <= len(times) <= MOST_POINTS
        assert 0 < times[0] < end / 2 + 1e-9
        assert times[0] == pytest.approx(end - times[-1])
        assert (np.diff(times) > 0).all()
        assert ((scores > 0) & (scores <= 1)).all()
        assert found.top(1).min_score(0).evidence is found.evidence


def test_outcomes_carry_evidence_only_if_it_was_asked_for(bundle: Path, tmp_path: Path, features: Features) -> None:
    np.save(tmp_path / "a.npy", features)
    paths = [tmp_path / "a.npy", tmp_path / "missing.npy"]
    localizer = Localizer.open(bundle)
    good, bad = localizer.detect_many(paths, tiny.CLASSES, evidence=True)
    assert good.evidence is good.result().evidence is not None
    assert bad.evidence is None
    assert all(outcome.evidence is None for outcome in localizer.detect_many(paths, tiny.CLASSES))


def test_only_the_largest_windows_are_joined() -> None:
    """Of a network that is sure in large windows only, and in any that shows a whole scene."""
    video = plant(draw_scenes((3000, 300, 100))[0], [], 1)

    def by_size(batch: Features) -> Iterator[Outputs]:
        for window in batch:
            T = len(window)
            snippets = float(window[-1, 1] - window[0, 1]) / POSITION
            sure = 6 if snippets > 0.9 * LARGEST or window[0, 1] > 2999 * POSITION else -6
            yield Outputs(np.stack([np.full(T, sure), np.zeros(T)]).astype(np.float32), FullMasks(np.eye(T)))

    assert joined_curves(by_size, video, classes=1).min() > 0.99


class WatchedCurves(WindowCurves):
    """Records how far behind each window's start the curves are settled."""

    def __init__(self, classes: int, snippets: int) -> None:
        super().__init__(classes, snippets)
        self.settled, self.behind = 0, [0]

    def settle(self, until: int) -> None:
        self.settled = max(self.settled, until)
        super().settle(until)

    def add(self, window: Window, cas_logits: FloatArray) -> None:
        self.behind.append(window.start - self.settled)
        super().add(window, cas_logits)


@pytest.mark.parametrize("largest", [SHORTEST, LARGEST])
def test_curves_are_settled_while_the_video_is_read(largest: int) -> None:
    video = plant(draw_scenes((6000, 700, 300))[0], [], 3)
    curves = WatchedCurves(3, len(video))
    decoder = StreamDecoder(SeeingNetwork(3), NAMES, 16, largest=largest, curves=curves)
    list(decoder.push(video))
    list(decoder.finish())
    assert len(curves.behind) > 6000 / largest
    assert min(curves.behind) >= 0
    assert max(curves.behind) <= decoder.delay
