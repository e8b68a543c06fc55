from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.decoding.decoders import CLOSED_SET_PROMPTS, NEUTRAL
from stale_runtime.decoding.proposals import Ranked
from stale_runtime.inference import stream
from stale_runtime.inference.forward_pass import Outputs
from stale_runtime.inference.stream import (
    BATCH,
    FEWEST,
    MOST_CANDIDATES,
    SECOND_LOOKS,
    SNIPPETS_PER_DETECTION,
    StreamDecoder,
)
from stale_runtime.inference.windows import LARGEST, LONGEST, LOOKAHEAD, SHORTEST, STEP
from stale_runtime.segments import FloatArray, temporal_iou
from tests.runtime.inference.synthetic_videos import APPEARANCE, Action, SeeingNetwork, draw_scenes, plant

T = 32
SURE = 0.2
"""Score of what is more than a slight chance."""
NAMES = ("archery", "long jump", "polo")


def open_stream(network: Any, *, names: Sequence[str] = NAMES, **options: Any) -> StreamDecoder:
    return StreamDecoder(network, names, options.pop("length", T), **options)


def found_in(decoder: StreamDecoder, features: FloatArray, piece: int = 1000) -> Ranked:
    parts = [part for n in range(0, len(features), piece) for part in decoder.push(features[n : n + piece])]
    return Ranked.joined([*parts, *decoder.finish()])


def assert_found(found: Ranked, actions: Sequence[Action], *, overlap: float = 0.8) -> None:
    """The actions, and nothing else that scores nearly as high."""
    sure = found.where(found.scores > SURE)
    planted = np.array([action[1:] for action in actions], np.float64)
    alike = temporal_iou(planted[:, None], sure.segments)  # (actions, N)
    alike[np.array([action[0] for action in actions])[:, None] != sure.classes] = 0
    assert (alike.max(axis=1, initial=0) >= overlap).all(), alike.max(axis=1, initial=0)
    assert (alike.max(axis=0) > 0).all(), sure.segments[alike.max(axis=0) == 0]


def random_video(seed: int, *, longest: int = 900) -> tuple[NDArray[np.float32], list[int]]:
    """A video with random scenes and actions."""
    dice = np.random.default_rng(seed)
    lengths = dice.integers(120, longest, dice.integers(1, 6)).tolist()
    scenes, borders = draw_scenes(lengths, seed=seed)
    actions = [
        (int(dice.integers(3)), start, start + int(dice.integers(2, 80)))
        for start in range(int(dice.integers(0, 90)), len(scenes), 150)
    ]
    return plant(scenes, actions, 3), borders


@pytest.mark.parametrize("largest", [256, LARGEST])
def test_actions_in_five_thousand_snippets_are_found_where_they_are(largest: int) -> None:
    scenes, _ = draw_scenes((700, 180, 2600, 400, 1120))
    actions = [
        (0, 300, 340), (1, 730, 800), (2, 1000, 1080), (0, 1700, 1712), (1, 2300, 2350), (2, 2900, 2990),
        (0, 3600, 3680), (1, 4000, 4030), (2, 4955, 5000),
    ]  # fmt: skip
    found = found_in(open_stream(SeeingNetwork(3), largest=largest, length=100), plant(scenes, actions, 3))
    assert_found(found, actions)


def test_an_action_that_fills_its_scene_is_found() -> None:
    scenes, borders = draw_scenes((500, 120, 500))
    actions = [(1, borders[0], borders[1])]
    assert_found(found_in(open_stream(SeeingNetwork(3)), plant(scenes, actions, 3)), actions)


@pytest.mark.parametrize(
    "snippets", [1, 2, 15, 16, 17, 31, 32, 33, STEP - 1, STEP, STEP + 1, 2 * STEP, 767, 768, 769, 960]
)
@pytest.mark.parametrize("largest", [SHORTEST, LARGEST, LONGEST])
def test_an_action_in_a_video_of_any_length_is_found(snippets: int, largest: int) -> None:
    scenes, _ = draw_scenes((snippets,))
    action = (2, snippets // 2, snippets // 2 + min(max(snippets // 8, 1), largest // 4))
    network = SeeingNetwork(3)
    found = found_in(open_stream(network, largest=largest), plant(scenes, [action], 3))
    assert (found.segments >= -1e-6).all()
    assert (found.segments <= snippets + 1e-6).all()
    assert_seen(network.windows, [0, snippets], largest)
    if snippets >= 16:
        assert_found(found, [action], overlap=0.5)


def assert_seen(windows: list[tuple[float, float]], borders: list[int], largest: int) -> None:
    """What the network got covers the video, never anything twice, and nothing that reaches over a border."""
    seen = np.array(windows)
    places = seen.round().astype(int)
    np.testing.assert_allclose(seen, places, rtol=0, atol=0.2)
    assert len({(start, end) for start, end in places.tolist()}) == len(places)
    assert ((places[:, 1] - places[:, 0]) <= largest).all()
    covered = np.zeros(borders[-1], bool)
    for start, end in places.tolist():
        assert 0 <= start < end <= borders[-1]
        assert not any(start < border < end for border in borders)
        covered[start:end] = True
    assert covered.all()


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([SHORTEST, 90, 200, LARGEST]), st.integers(1, 2000))
def test_windows_are_read_from_where_they_are_and_the_pieces_do_not_matter(seed: int, largest: int, piece: int) -> None:
    """Rows that are needed are kept; the network reads from the features where its window is."""
    features, borders = random_video(seed)
    network, other = SeeingNetwork(3), SeeingNetwork(3)
    found = found_in(open_stream(network, largest=largest), features, piece)
    assert_seen(network.windows, [0, *borders, len(features)], largest)
    again = found_in(open_stream(other, largest=largest), features, len(features))
    for field, expected in zip(found, again, strict=True):
        np.testing.assert_array_equal(field, expected)
    assert network.windows == other.windows


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([SHORTEST, 200, LARGEST]))
def test_a_detection_is_returned_no_later_than_the_delay_says(seed: int, largest: int) -> None:
    features, _ = random_video(seed)
    decoder = open_stream(SeeingNetwork(3), largest=largest)
    for n in range(len(features)):
        for part in decoder.push(features[n : n + 1]):
            assert (part.segments.mean(axis=1) + decoder.delay >= n + 1).all()
    for part in decoder.finish():
        assert (part.segments.mean(axis=1) + decoder.delay >= len(features)).all()


def test_the_delay_holds_for_a_detection_whose_edges_are_averaged() -> None:
    """Its middle may come to lie before the stretch that has just become final."""
    places = {
        (1350, 1450): (1355, 1449, 1.5),
        (1300, 1500): (1338, 1432, 12.0),
    }  # the first is averaged with the second
    network = SeeingNetwork(1)

    def see(batch: NDArray[np.float32]) -> Iterator[Outputs]:
        list(network(batch))
        for first, last in network.windows[-len(batch) :]:
            window = round(first), round(last)
            marks, logit = np.zeros(100), 0.0
            if window in places:
                start, end, logit = places[window]
                middles = first + (np.arange(100) + 0.5) * (last - first) / 100
                marks[(start < middles) & (middles < end)] = 1
            logits = np.stack([logit * marks, np.full(100, 6.0)]).astype(np.float32)
            yield Outputs(logits, FullMasks(np.outer(marks, marks)))

    decoder = open_stream(see, names=["polo"], largest=200, length=100)
    features = plant(draw_scenes((2400,))[0], [], 1)
    middles = []
    for n in range(len(features)):
        for part in decoder.push(features[n : n + 1]):
            middles += part.segments.mean(axis=1).tolist()
            assert all(middle + decoder.delay >= n + 1 for middle in part.segments.mean(axis=1))
    assert any(1380 < middle < 1395 for middle in middles[1:])


@pytest.mark.parametrize("largest", [SHORTEST, LARGEST])
def test_second_looks_are_rare_and_batches_small(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, _ = random_video(7)
    network, original = SeeingNetwork(3), StreamDecoder._look_again
    looks: list[int] = []
    tiles: list[int] = []

    def look(self: StreamDecoder, ranked: Ranked, snippets: int) -> None:
        before = len(network.windows)
        original(self, ranked, snippets)
        looks.append(len(network.windows) - before)
        tiles.append(snippets)

    monkeypatch.setattr(StreamDecoder, "_look_again", look)
    found_in(open_stream(network, largest=largest), features)
    assert sum(tiles) == len(features)
    assert all(0 <= n <= -(-SECOND_LOOKS * snippets // 1000) for n, snippets in zip(looks, tiles, strict=True))
    assert sum(looks) > 0
    assert max(B for B, _ in network.batches) == BATCH


def test_how_many_windows_the_network_gets_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features = plant(draw_scenes((900, 1500))[0], [(1, 100, 160), (2, 1400, 1700)], 3)
    alone, many = SeeingNetwork(3), SeeingNetwork(3)
    monkeypatch.setattr(stream, "BATCH", 1)
    expected = found_in(open_stream(alone), features)
    monkeypatch.setattr(stream, "BATCH", 16)
    found = found_in(open_stream(many), features)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert {B for B, _ in alone.batches} == {1}
    assert BATCH < max(B for B, _ in many.batches) <= 16


@pytest.mark.parametrize("largest", [SHORTEST, LARGEST])
def test_memory_does_not_grow(largest: int) -> None:
    """The stream remembers what its last few windows need, whatever came before."""
    tile, _ = draw_scenes((900, 120, 480, 1000))
    features = plant(tile, [(n % 3, 97 * n, 97 * n + 5 + n) for n in range(25)], 3)
    decoder = open_stream(SeeingNetwork(3), largest=largest, length=16)
    kept = 4 * largest + 2 * LOOKAHEAD + 3 * STEP
    each = 3 * kept / 16 + 50  # windows of 32 snippets start every 16, those of sizes above less often
    parts = 0
    for n in range(0, (20_000 if largest == SHORTEST else 50_000), 500):
        parts += sum(len(part.scores) for part in decoder.push(features[n % 2500 : n % 2500 + 500]))
        assert len(decoder._snippets) <= kept
        assert sum(map(len, decoder._waiting)) <= 500 + STEP
        assert len(decoder._windows) <= each
        assert len(decoder._candidates.scores) <= MOST_CANDIDATES * each
        assert len(decoder._final.scores) <= 4 * max(FEWEST, kept // SNIPPETS_PER_DETECTION)
        assert len(decoder._schedule._borders) <= kept / 16
    assert parts > 100


def test_the_neutral_class_of_the_closed_set_is_not_reported() -> None:
    names = [f"class {k}" for k in range(CLOSED_SET_PROMPTS)]
    names[1] = NEUTRAL
    scenes, _ = draw_scenes((400,))
    actions = [(0, 50, 100), (2, 250, 300), (200, 340, 380)]
    features = plant(scenes, [*actions, (1, 150, 200)], 201)
    found = found_in(open_stream(SeeingNetwork(201), names=names, classes=5), features)
    assert 1 not in found.classes
    elsewhere = np.flatnonzero((found.segments < 140).any(axis=1) | (found.segments > 210).any(axis=1))
    assert_found(found.where(elsewhere), actions)
    other = [*names[:1], "not neutral", *names[2:]]
    found = found_in(open_stream(SeeingNetwork(201), names=other, classes=5), features)
    assert_found(found, [*actions, (1, 150, 200)])


def test_one_class_is_enough() -> None:
    scenes, _ = draw_scenes((1500,))
    found = found_in(open_stream(SeeingNetwork(1), names=["polo"]), plant(scenes, [(0, 700, 740)], 1))
    assert_found(found, [(0, 700, 740)])
    assert set(found.classes.tolist()) == {0}


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e6])
def test_features_of_any_size_are_taken(size: float) -> None:
    """No warning of an overflow, and a video in which nothing changes is looked at like any other."""
    network = SeeingNetwork(3)
    decoder = open_stream(network)
    list(decoder.push(np.full((1500, 4 + APPEARANCE), size, np.float64)))
    list(decoder.finish())
    assert len(network.windows) > 10


def test_float16_gives_what_float32_gives() -> None:
    features = random_video(3)[0]
    half = (features * np.float32(100)).astype(np.float16)  # squares are beyond float16
    found = found_in(open_stream(SeeingNetwork(3)), half)
    expected = found_in(open_stream(SeeingNetwork(3)), half.astype(np.float32))
    np.testing.assert_array_equal(found.segments, expected.segments)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_what_was_pushed_may_be_overwritten_afterwards() -> None:
    features = random_video(5)[0]
    expected = found_in(open_stream(SeeingNetwork(3)), features, 100)
    decoder, buffer, parts = open_stream(SeeingNetwork(3)), np.zeros((100, features.shape[1]), np.float32), []
    for n in range(0, len(features), 100):
        piece = features[n : n + 100]
        buffer[: len(piece)] = piece
        parts += list(decoder.push(buffer[: len(piece)]))
        buffer[:] = np.nan
    np.testing.assert_array_equal(Ranked.joined([*parts, *decoder.finish()]).segments, expected.segments)


def test_nothing_is_found_in_nothing() -> None:
    decoder = open_stream(SeeingNetwork(3))
    assert list(decoder.push(np.zeros((0, 4 + APPEARANCE), np.float32))) == []
    assert list(decoder.finish()) == []


def test_scenes_that_are_looked_at_as_a_whole_have_a_length_of_their_own() -> None:
    scenes, _ = draw_scenes((64, 300, 65, 700))
    network = SeeingNetwork(3)
    found_in(open_stream(network, scene_length=2 * T), plant(scenes, [], 3))
    lengths = [length for B, length in network.batches for _ in range(B)]
    looked_at = [(round(a), round(b), T) for (a, b), T in zip(network.windows, lengths, strict=True)]
    whole = {(0, 64, T), (64, 364, 2 * T), (364, 429, 2 * T), (429, 1129, 2 * T)}
    assert whole <= set(looked_at)
    assert all(length == T for start, end, length in looked_at if (start, end, length) not in whole)
