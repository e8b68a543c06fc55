from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime import Detection, Localizer, Timeline, VideoDetections
from stale_runtime.decoding.standard_decoder import decode_standard
from stale_runtime.inference.stream import FEWEST
from stale_runtime.inference.windows import LARGEST
from stale_runtime.inputs import feature_file
from tests import tiny
from tests.runtime.helpers import altered

Features = NDArray[np.float32]
C, QUERIES = tiny.CHANNELS, tiny.CONFIG.heads * tiny.CHANNELS
WIDTH = C + QUERIES


def numbers(video: VideoDetections) -> NDArray[np.float64]:
    """Start, end and score of each detection: (N, 3)."""
    return np.array([row[1:] for row in video.detections], dtype=np.float64).reshape(-1, 3)


@pytest.mark.parametrize(
    ("options", "longest"),
    [
        ({}, 32),
        ({"length": "auto"}, 32),
        ({"length": 50}, None),
        ({"window": "off"}, None),
        ({"window": 100}, 0),
        ({"window": 100, "length": 50}, 0),
        ({"decoder": "upstream"}, None),
    ],
)
def test_windows_are_for_long_videos_or_by_request(
    bundle: Path, features: Features, options: dict[str, Any], longest: int | None
) -> None:
    localizer = Localizer.open(bundle, **options)
    assert localizer.longest_whole == longest
    for snippets in (1, 32, 33, 40):
        expected = None if longest is None or snippets <= longest else options.get("window", LARGEST)
        assert localizer.window_for(features[:snippets]) == expected
        assert localizer.detect(features[:snippets], tiny.CLASSES).window == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_short_video_is_looked_at_through_windows_if_it_has_a_cut(
    bundle: Path, tmp_path: Path, dtype: type[np.floating[Any]]
) -> None:
    copy = altered(bundle, tmp_path / "copy", temporal_scale=100)
    automatic, whole, windows = (Localizer.open(copy, window=window) for window in ("auto", "off", LARGEST))
    cases = [(150, 150), (200, 100), (161, 60), (101, 50), (100, 50), (200, 200), (101, 101), (201, 201)]
    dice = np.random.default_rng(0)
    for snippets, cut in cases:
        scenes = np.where(np.arange(snippets) < cut, 1, -1)[:, None] * dice.standard_normal(C)
        video = (scenes + 0.2 * dice.standard_normal((snippets, C))).astype(dtype)
        expected = LARGEST if snippets > 200 or (snippets > 160 and cut < snippets) else None  # two scenes of 72
        assert automatic.window_for(video) == expected
        found = automatic.detect(video, tiny.CLASSES, video="video")
        assert found == (whole if expected is None else windows).detect(video, tiny.CLASSES)
        assert found.window == expected
        np.save(tmp_path / "video.npy", video)
        assert automatic.detect_file(tmp_path / "video.npy", tiny.CLASSES) == found
        rows = list(automatic.stream(tiny.CLASSES, snippet_s=1 / snippets).detections([video[:60], video[60:]]))
        rows.sort(key=lambda row: -row.score)
        np.testing.assert_allclose([row[1:] for row in rows], numbers(found), rtol=0, atol=1e-6)


def test_a_bundle_s_own_decoder_must_have_the_options(bundle: Path, tmp_path: Path) -> None:
    copy = altered(bundle, tmp_path / "copy", decoder="upstream")
    assert Localizer.open(copy).longest_whole is None
    with pytest.raises(ValueError, match="window 64 with decoder upstream"):
        Localizer.open(copy, window=64)


def test_a_look_at_the_whole_is_the_standard_decoder_s_to_the_bit(bundle: Path, features: Features) -> None:
    whole = Localizer.open(bundle, window="off")
    prompts = whole.encode_prompts(tiny.CLASSES)
    for video in (features[:10], features[:32], features):
        outputs = whole.forward(whole.prepare(video, prompts))
        ranked = decode_standard(outputs.cas_logits, outputs.masks)
        expected = tuple(
            Detection(tiny.CLASSES[label], start, end, score)
            for label, (start, end), score in zip(
                ranked.classes.tolist(), ranked.segments.clip(0, 1).tolist(), ranked.scores.tolist(), strict=True
            )
        )
        assert whole.detect(video, prompts).detections == expected
        if len(video) <= 32:
            assert Localizer.open(bundle).detect(video, prompts).detections == expected


@pytest.mark.parametrize("window", ["off", 64])
def test_the_best_detections_are_kept(bundle: Path, features: Features, window: Any) -> None:
    found = Localizer.open(bundle, window=window).detect(features, tiny.CLASSES).detections
    few = Localizer.open(bundle, window=window, most_detections=3).detect(features, tiny.CLASSES).detections
    assert few == found[:3]


def test_more_detections_than_usual_can_be_asked_for(bundle: Path) -> None:
    video = np.random.default_rng(0).standard_normal((500, C)).astype(np.float32)
    usual = Localizer.open(bundle, window=256).detect(video, tiny.CLASSES).detections
    assert len(usual) == 2 * FEWEST
    more = Localizer.open(bundle, window=256, most_detections=500).detect(video, tiny.CLASSES).detections
    assert len(usual) < len(more) <= 500
    assert more[:20] == usual[:20]


def test_a_file_of_a_long_video_gives_what_its_array_gives(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of any size, and files in either order."""
    localizer = Localizer.open(bundle)
    video = np.random.default_rng(0).standard_normal((1300, C)).astype(np.float16)
    expected = localizer.detect(video, tiny.CLASSES, duration_s=260.0)
    scores = [row.score for row in expected]
    assert scores == sorted(scores, reverse=True)
    for size, order in ((100, "C"), (999, "C"), (999, "F")):
        monkeypatch.setattr(feature_file, "BLOCK_BYTES", size * C * 2)
        np.save(tmp_path / "video.npy", np.asarray(video, order=order))  # type: ignore[call-overload]
        watched: list[int] = []

        def watch(blocks: Iterable[Any], count: int) -> Iterator[Any]:
            for block in blocks:
                watched.append(len(block))  # noqa: B023
                yield block
            assert len(watched) == count  # noqa: B023

        found = localizer.detect_file(
            tmp_path / "video.npy", tiny.CLASSES, timeline=Timeline(snippet_s=0.2), watch=watch
        )
        assert found == expected
        assert sum(watched) == 1300
