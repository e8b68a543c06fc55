from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.evaluation.ground_truth import read_ground_truth
from stale_runtime.evaluation.results import read_results
from stale_runtime.formats.subtitles import subrip, web_vtt
from tests.runtime.formats.results import HOSTILE, hostile_video, result_of, video_of

ROWS = (("Long jump", 61.5, 3723.0044, 0.91239), ("polo", 0.0, 2.5, 0.5), ("polo", 2, 70, 0.25))
VIDEO = video_of(*ROWS, duration_s=4000.0)
DRAWN = st.lists(st.tuples(st.text(), st.floats(0, 50), st.floats(0, 50), st.floats(0, 1)), max_size=12)


def test_subrip_by_value() -> None:
    assert subrip(result_of(VIDEO)) == (
        "1\n00:00:00,000 --> 00:01:01,500\npolo (0.50)\n\n"
        "2\n00:01:01,500 --> 00:01:10,000\nLong jump (0.91)\npolo (0.25)\n\n"
        "3\n00:01:10,000 --> 01:02:03,004\nLong jump (0.91)\n"
    )
    assert subrip(result_of(video_of())) == ""


def test_web_vtt_by_value() -> None:
    assert web_vtt(result_of(VIDEO, min_score=0.3)) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.500\npolo (0.50)\n\n00:01:01.500 --> 01:02:03.004\nLong jump (0.91)\n"
    )
    assert web_vtt(result_of(video_of())) == "WEBVTT\n"


def read_subrip(text: str) -> list[tuple[float, float, str]]:
    """What the library srt reads: start and end in seconds, and text."""
    cues = list(srt.parse(text, ignore_errors=False))
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))
    return [(cue.start / timedelta(seconds=1), cue.end / timedelta(seconds=1), cue.content) for cue in cues]


def read_web_vtt(text: str) -> list[tuple[float, float, str]]:
    """What the library webvtt-py reads: start and end in seconds, and text without its markup."""
    cues = webvtt.from_string(text).captions
    return [(_seconds(cue.start), _seconds(cue.end), cue.raw_text) for cue in cues]


def _seconds(time: str) -> float:
    hours, minutes, seconds = time.split(":")
    return round(int(hours) * 3600 + int(minutes) * 60 + float(seconds), 3)


def assert_clean(cues: list[tuple[float, float, str]]) -> None:
    assert all(start < end for start, end, _ in cues)
    assert all(before[1] <= after[0] for before, after in pairwise(cues))


def test_no_name_breaks_subrip() -> None:
    cues = read_subrip(subrip(result_of(hostile_video())))
    assert_clean(cues)
    assert [line.rpartition(" ")[2] for _, _, text in cues for line in text.splitlines()] == [
        f"({0.9 - n / 100:.2f})" for n in range(len(HOSTILE))
    ]
    together = "".join(text for _, _, text in cues)
    assert not set("<>{}\\\t\r\0\x1b") & set(together)
    assert "\U0001f468\u200d\U0001f469\u200d\U0001f467" in together


def test_no_name_breaks_web_vtt() -> None:
    text = web_vtt(result_of(hostile_video()))
    cues = read_web_vtt(text)
    assert_clean(cues)
    assert len(cues) == len(HOSTILE)
    assert text.count("-->") == len(HOSTILE)
    assert "<" not in text.replace("&lt;", "")
    assert "&lt;b&gt;bold&lt;/b&gt;" in text


@given(DRAWN, st.floats(0, 1))
def test_libraries_read_back_cues_that_do_not_overlap(
    rows: list[tuple[str, float, float, float]], min_score: float
) -> None:
    video = video_of(*((label, start, start + length, score) for label, start, length, score in rows))
    result = result_of(video, min_score=min_score)
    subrip_cues, vtt_cues = read_subrip(subrip(result)), read_web_vtt(web_vtt(result))
    assert_clean(subrip_cues)
    assert [cue[:2] for cue in subrip_cues] == [cue[:2] for cue in vtt_cues]
    shown = [float(line.rpartition("(")[2][:-1]) for _, _, text in subrip_cues for line in text.splitlines()]
    assert all(score >= min_score - 0.005 for score in shown)
    assert bool(shown) == any(row[3] >= min_score for row in rows)


@pytest.mark.reference
def test_subtitles_of_all_reference_videos_neither_overlap_nor_show_low_scores(reference: Path) -> None:
    truth = read_ground_truth(reference / "ground_truth.json").videos
    found = read_results(reference / "golden" / "upstream_detections_all200.json").videos
    assert len(found) == 96
    low = 0
    for name, rows in found.items():
        kept = [Detection(row.label, min(row.start, row.end), row.end, row.score) for row in rows]
        video = VideoDetections(video=name, duration_s=truth[name].duration_s, detections=tuple(kept))
        result = result_of(video, min_score=0.1)
        low += result.below
        for cues in (read_subrip(subrip(result)), read_web_vtt(web_vtt(result))):
            assert_clean(cues)
            assert all(float(line.rpartition("(")[2][:-1]) >= 0.1 for *_, text in cues for line in text.splitlines())
    assert low > 1000
