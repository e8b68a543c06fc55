from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_runtime import Detection, Localizer, Timeline
from stale_runtime.errors import FeatureError
from stale_runtime.inference.stream import BATCH
from stale_runtime.inference.windows import LARGEST
from tests import tiny

C = tiny.CHANNELS
WHOLE = 2 * tiny.LENGTH
"""Most snippets that are looked at as a whole."""
LENGTHS = (1, WHOLE - 1, WHOLE, WHOLE + 1, 300, 1500)


@pytest.fixture(scope="module")
def localizer(bundle: Path) -> Localizer:
    return Localizer.open(bundle)


@pytest.fixture(scope="module")
def small(bundle: Path) -> Localizer:
    """Its windows are small, so that detections become final early."""
    return Localizer.open(bundle, window=64)


def draw(T0: int, seed: int = 0) -> NDArray[np.float32]:
    """Scenes of 50 snippets each."""
    dice = np.random.default_rng(seed)
    scenes = dice.standard_normal((T0 // 50 + 1, C)).repeat(50, axis=0)[:T0]
    return np.asarray(scenes + 0.5 * dice.standard_normal((T0, C)), np.float32)


def cut(features: NDArray[Any], sizes: Iterator[int]) -> Iterator[NDArray[Any]]:
    start = 0
    while start < len(features):
        size = next(sizes)
        yield features[start : start + size]
        start += size


def assert_same(found: list[Detection], expected: tuple[Detection, ...]) -> None:
    """The same detections, in any order, but for the rounding of times."""
    assert len(found) == len(expected) > 0
    ordered = [sorted(rows, key=lambda row: (-row.score, row.start, row.label)) for rows in (found, list(expected))]
    for row, other in zip(*ordered, strict=True):
        assert (row.label, row.score) == (other.label, other.score)
        assert row[1:3] == pytest.approx(other[1:3], rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("snippets", LENGTHS)
@pytest.mark.parametrize("window", ["auto", 64, 1000])
def test_a_stream_gives_what_the_file_gives(bundle: Path, tmp_path: Path, snippets: int, window: Any) -> None:
    localizer = Localizer.open(bundle, window=window)
    features = draw(snippets)
    np.save(tmp_path / "video.npy", features)
    expected = localizer.detect_file(tmp_path / "video.npy", tiny.CLASSES, timeline=Timeline(snippet_s=0.2))
    by_length = None if snippets <= WHOLE else LARGEST
    assert expected.window == (by_length if window == "auto" else window)
    for size in (7, 256, 5000):
        stream = localizer.stream(tiny.CLASSES, snippet_s=0.2)
        found = [row for n in range(0, snippets, size) for row in stream.push(features[n : n + size])]
        found += stream.finish()
        assert stream.received == snippets
        assert_same(found, expected.detections)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 1200), st.lists(st.integers(0, 400), min_size=1, max_size=10).filter(any), st.integers(0, 99))
def test_the_pieces_do_not_matter(small: Localizer, snippets: int, sizes: list[int], seed: int) -> None:
    features = draw(snippets, seed)
    prompts = small.encode_prompts(tiny.CLASSES)
    endless = (size for _ in iter(int, 1) for size in sizes)
    found = list(small.stream(prompts).detections(cut(features, endless)))
    assert found == list(small.stream(prompts).detections([features]))


@pytest.mark.parametrize("snippets", [WHOLE, 700])
def test_times_are_in_snippets_unless_they_are_known(localizer: Localizer, snippets: int) -> None:
    features = draw(snippets)
    in_snippets = list(localizer.stream(tiny.CLASSES).detections([features]))
    in_seconds = list(localizer.stream(tiny.CLASSES, snippet_s=0.25).detections([features]))
    fractions = localizer.detect(features, tiny.CLASSES).detections
    assert len(in_snippets) == len(in_seconds) == len(fractions) > 0
    for row, other in zip(in_snippets, in_seconds, strict=True):
        assert (row.label, row.score) == (other.label, other.score)
        assert [0.25 * t for t in row[1:3]] == pytest.approx(other[1:3])
        assert 0 <= row.start <= row.end <= snippets
    assert sorted(row.start / snippets for row in in_snippets) == pytest.approx(sorted(row.start for row in fractions))


def test_a_detection_is_final_no_later_than_the_delay_says(small: Localizer) -> None:
    features = draw(2000)
    stream = small.stream(tiny.CLASSES)
    early = 0
    for n in range(len(features)):
        for row in stream.push(features[n : n + 1]):
            assert stream.received <= (row.start + row.end) / 2 + stream.delay
            early += 1
    assert early > 0
    for row in stream.finish():
        assert (row.start + row.end) / 2 + stream.delay > stream.received


def test_a_short_stream_is_looked_at_as_a_whole_at_its_end(localizer: Localizer) -> None:
    stream = localizer.stream(tiny.CLASSES)
    assert stream.push(draw(WHOLE)) == []
    expected = localizer.detect(draw(WHOLE), tiny.CLASSES, duration_s=WHOLE).detections
    assert stream.finish() == list(expected)


@pytest.mark.parametrize(
    ("value", "says"), [(np.nan, "NaN or infinity, not within ±1e+06"), (1e9, "a value beyond ±1e+06")]
)
@pytest.mark.parametrize("at", [0, WHOLE, 1299])
def test_a_bad_value_is_named_and_what_was_found_before_it_is_out(
    small: Localizer, value: float, says: str, at: int
) -> None:
    features = draw(1400)
    features[at, 2] = value
    before = list(small.stream(tiny.CLASSES).detections([features[:at]]))
    found: list[Detection] = []
    with pytest.raises(FeatureError) as caught:
        found += small.stream(tiny.CLASSES).detections(features[n : n + 300] for n in range(0, 1400, 300))
    assert str(caught.value).startswith(f"snippet {at} of the stream: {says}; ")
    stream = small.stream(tiny.CLASSES)
    with pytest.raises(FeatureError, match=f"snippet {at} of the stream"):
        stream.push(features)
    assert stream.received == at
    assert stream.finish() == before
    assert (len(before) > 0) == (at > 0)


def test_detections_before_a_bad_value_are_yielded_before_the_error(small: Localizer) -> None:
    features = draw(1400)
    features[1300] = np.inf
    rows = small.stream(tiny.CLASSES).detections([features])
    expected = list(small.stream(tiny.CLASSES).detections([features[:1300]]))
    assert [next(rows) for _ in expected] == expected
    with pytest.raises(FeatureError):
        next(rows)


def test_after_an_error_the_stream_goes_on_where_it_was(small: Localizer) -> None:
    features = draw(1400)
    broken = features.copy()
    broken[1000] = np.nan
    stream = small.stream(tiny.CLASSES)
    with pytest.raises(FeatureError):
        stream.push(broken)
    found = stream.push(features[stream.received :]) + stream.finish()
    assert found == list(small.stream(tiny.CLASSES).detections([features]))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (np.zeros((3, 7), np.float32), r"features from snippet 5 of the stream on: shape \(3, 7\), expected"),
        (np.zeros(C, np.float32), rf"shape \({C},\), expected \(snippets, {C}\)"),
        (np.zeros((1, 3, C), np.float32), r"shape \(1, 3, 16\)"),
        (np.zeros((3, C), np.int64), "type int64, expected float16, float32 or float64"),
        (np.float32(1), r"shape \(\)"),
    ],
)
def test_what_are_no_features_is_refused(localizer: Localizer, rows: Any, says: str) -> None:
    stream = localizer.stream(tiny.CLASSES)
    stream.push(draw(5))
    with pytest.raises(FeatureError, match=says):
        stream.push(rows)
    assert stream.received == 5


def test_every_precision_gives_the_same(localizer: Localizer) -> None:
    features = draw(400).astype(np.float16)
    expected = list(localizer.stream(tiny.CLASSES).detections([features]))
    for dtype in (np.float32, np.float64):
        assert list(localizer.stream(tiny.CLASSES).detections([features.astype(dtype)])) == expected


def test_no_snippets_are_no_detections_and_no_error(localizer: Localizer) -> None:
    stream = localizer.stream(tiny.CLASSES)
    assert stream.push(np.zeros((0, C), np.float32)) == stream.finish() == stream.finish() == []
    with pytest.raises(ValueError, match="push after finish; open another stream"):
        stream.push(draw(1))


def test_one_class_is_enough(localizer: Localizer) -> None:
    features = draw(700)
    found = list(localizer.stream(["polo"]).detections([features]))
    assert {row.label for row in found} == {"polo"}
    assert_same(found, localizer.detect(features, ["polo"], duration_s=700).detections)


@pytest.mark.parametrize("options", [{"window": "off"}, {"length": 50}, {"decoder": "upstream"}])
def test_a_stream_is_not_looked_at_as_a_whole(bundle: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="take the standard decoder, and a number of snippets as window"):
        Localizer.open(bundle, **options).stream(tiny.CLASSES)


def test_a_length_and_a_window_are_fine(bundle: Path) -> None:
    localizer = Localizer.open(bundle, length=32, window=64)
    found = list(localizer.stream(tiny.CLASSES).detections([draw(20)]))
    assert_same(found, localizer.detect(draw(20), tiny.CLASSES, duration_s=20).detections)


def test_the_best_of_a_stream_are_not_known_before_its_end(bundle: Path) -> None:
    with pytest.raises(ValueError, match="most_detections"):
        Localizer.open(bundle, most_detections=5).stream(tiny.CLASSES)


@pytest.mark.parametrize("snippet_s", [0.0, -1.0, float("nan")])
def test_a_snippet_lasts_some_time(localizer: Localizer, snippet_s: float) -> None:
    with pytest.raises(ValueError, match="snippet_s"):
        localizer.stream(tiny.CLASSES, snippet_s=snippet_s)


def test_the_network_gets_no_more_windows_at_once_than_memory_was_checked_for(
    small: Localizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    original = small._network.run_windows

    def spy(batch: NDArray[np.float32], prompts: Any) -> Any:
        nonlocal most
        most = max(most, len(batch))
        return original(batch, prompts)

    monkeypatch.setattr(small._network, "run_windows", spy)
    list(small.stream(tiny.CLASSES).detections([draw(1500)]))
    assert 1 < most <= BATCH
