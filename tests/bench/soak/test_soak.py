import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_bench.measuring import process_memory as memory
from stale_bench.reporting import tables as report
from stale_bench.soak import soak as soak_module
from stale_bench.soak.soak import FEWEST_VIDEOS, Sample, Soak, Turns
from stale_runtime import Localizer, Prompts, VideoDetections
from stale_runtime.errors import BenchmarkError
from tests import tiny

CLASSES = Prompts.of(tiny.CLASSES)
MEGABYTE = 2**20


def made(
    *,
    rise_mb: float = 0.0,
    descriptors: int = 8,
    changed: int = 0,
    slower: float = 1.0,
    beside_new: tuple[float, ...] = (),
) -> Soak:
    """Fifty rounds of ten videos, memory rising by so much in each; times of rounds over those of new processes."""
    noise = np.random.default_rng(0).normal(0, 0.1, 50)
    samples = [Sample(0.5 if n < 25 else 0.5 * slower, 0.25, 0, 100 + rise_mb * n + noise[n], 8) for n in range(50)]
    samples[-1] = samples[-1]._replace(descriptors=descriptors, changed=changed)
    turns = tuple(Turns((ratio, 2 * ratio, 3 * ratio), (1.0, 2.0, 3.0)) for ratio in beside_new)
    return Soak(mix=10, descriptors=8, samples=tuple(samples), turns=turns)


@contextmanager
def every_detection(localizer: Localizer, patch: pytest.MonkeyPatch, also: Any) -> Iterator[None]:
    """Do something else as well whenever a file's video is looked at."""
    original = localizer.detect_file

    def detect_file(path: Path, *arguments: Any) -> VideoDetections:
        found = original(path, *arguments)
        return also(path, found) or found

    with patch.context() as inner:
        inner.setattr(localizer, "detect_file", detect_file)
        yield


@pytest.fixture(scope="module")
def localizer(bundle: Path) -> Localizer:
    return Localizer.open(bundle, length="auto")


def test_a_localizer_stays_as_it_was(localizer: Localizer) -> None:
    seen: list[str] = []
    done = soak_module.soak(localizer, CLASSES, videos=600, new_processes=0, say=seen.append)
    assert (done.videos, done.mix, len(done.samples)) == (600, 30, 20)
    assert seen == [f"{n} of 600 videos" for n in range(30, 601, 30)]
    assert {sample.descriptors for sample in done.samples} == {done.descriptors}
    assert done.changed == 0
    assert done.samples[-1].rss_mb - done.samples[2].rss_mb < 20


def test_every_round_is_of_the_same_videos(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with every_detection(localizer, monkeypatch, lambda path, found: seen.append(path.stem)):
        soak_module.soak(localizer, CLASSES, videos=FEWEST_VIDEOS, new_processes=0)
    rounds = [seen[n : n + 5] for n in range(0, len(seen), 5)]
    assert len(rounds) == 21
    assert {tuple(sorted(names, key=int)) for names in rounds} == {("0", "2", "4", "6", "8")}
    assert len({tuple(names) for names in rounds}) > 5


def test_a_localizer_that_leaks_is_found(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    def leak(path: Path, found: VideoDetections) -> None:
        kept.append((np.ones(MEGABYTE // 8), path.open("rb")))

    with every_detection(localizer, monkeypatch, leak):
        problems = soak_module.soak(localizer, CLASSES, videos=FEWEST_VIDEOS, new_processes=0).problems()
    for _, file in kept:
        file.close()
    assert len(problems) == 2
    assert problems[0].startswith("memory grows, by ")
    assert problems[1] == "105 descriptors were left open"


def test_a_localizer_that_changes_its_mind_is_found(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[Path] = []

    def forget(path: Path, found: VideoDetections) -> VideoDetections:
        times.append(path)
        return replace(found, detections=()) if len(times) == 50 else found

    with every_detection(localizer, monkeypatch, forget):
        problems = soak_module.soak(localizer, CLASSES, videos=FEWEST_VIDEOS, new_processes=0).problems()
    assert problems == ["1 of 200 videos had other detections than the first time"]


def test_what_is_a_problem() -> None:
    assert not made().problems()
    assert not made(rise_mb=-1).problems()
    assert not made(rise_mb=0.01).problems()  # half a megabyte of a hundred
    assert made(rise_mb=0.2).problems()[0].startswith("memory grows, by 9.0 MB at least")
    assert made(descriptors=9).problems() == ["1 descriptors were left open"]
    assert not made(descriptors=7).problems()
    assert made(changed=2).problems() == ["2 of 500 videos had other detections than the first time"]
    assert not made(slower=2).problems()
    assert not made(beside_new=(0.9, 1.0, 1.0, 1.1)).problems()
    assert not made(beside_new=(1.04, 1.04, 1.04)).problems()
    assert not made(beside_new=(1.5, 1.5)).problems()  # too few to be sure
    assert made(beside_new=(1.25, 1.25, 1.25)).problems() == [
        "it slows down: 20% slower at least than a process that has only just begun"
    ]


def test_the_table_says_what_was_measured() -> None:
    lines = report.soak_table(made(rise_mb=0.2, slower=1.25), "simple").splitlines()
    cells = {line[:21].strip(): line[21:].split() for line in lines[2:5]}
    assert cells["videos a second"] == ["20.0", "16.0", "-20.0%"]
    assert cells["videos a CPU second"] == ["40.0", "40.0", "+0.0%"]
    assert cells["resident memory, MB"][2] == "+9.1%"
    assert lines[6] == "500 videos of 16 to 3,000 snippets in 50 rounds of 10."
    slope, low, high = (float(lines[7].split()[n].rstrip(".")) for n in (5, 12, 14))
    assert low < 20_000 < high
    assert low < slope < high
    assert lines[8] == "Open descriptors: 8 before, 8 after. Detections unlike those of the first time: 0."
    assert len(lines) == 9


def test_the_table_says_how_it_stands_beside_new_processes() -> None:
    def last(*ratios: float) -> str:
        return report.soak_table(made(beside_new=ratios), "simple").splitlines()[-1]

    assert last(1.25) == "Speed at the end beside 1 new processes, in turns: -20.0%."
    equal = "Speed at the end beside 3 new processes, in turns: +25.0%, 99% interval +25.0% to +25.0%."
    assert last(0.8, 0.8, 0.8) == equal


def test_a_localizer_that_slows_down_is_found(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that remembers all videos it has seen, and goes through them again for each."""
    times: list[Path] = []

    def dawdle(path: Path, found: VideoDetections) -> None:
        times.append(path)
        time.sleep(len(times) * 5e-5)

    with every_detection(localizer, monkeypatch, dawdle):
        done = soak_module.soak(localizer, CLASSES, videos=400, new_processes=3)
    speed = done.speed_beside_new()
    assert speed is not None
    assert speed.median < 0.9
    assert all(len(turns.old) == len(turns.new) == soak_module.TURNS for turns in done.turns)
    assert len(done.turns) == 3


def test_a_system_that_does_not_say_is_a_benchmark_error(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_STATUS", "_DESCRIPTORS"):
        with monkeypatch.context() as patch:
            patch.setattr(memory, name, Path("/nowhere"))
            with pytest.raises(BenchmarkError, match=r"/nowhere.*; a soak needs Linux$"):
                soak_module.soak(localizer, CLASSES, videos=FEWEST_VIDEOS, new_processes=0)
