"""Benchmarks over the length of videos."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_bench.benchmark_backends import BACKENDS, Backend
from stale_bench.benchmark_inputs import Evaluation, MeasuredVideos, read_evaluation, read_videos
from stale_bench.engines.localizer_engine import LocalizerEngine
from stale_bench.footage import Footage, joined_footage, random_footage
from stale_bench.measuring.plan import BenchmarkCase, BenchmarkRequest, Plan, make_job
from stale_bench.measuring.prepare import prepare
from stale_bench.reporting.benchmark_results import Results, Row
from stale_bench.reporting.summary import summarise
from stale_bench.statistics.map_difference import MapDifference
from stale_runtime.detections import Detection
from stale_runtime.errors import BenchmarkError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inputs.timeline import Timeline
from tests.bench import fakes
from tests.bench.fakes import fake
from tests.bench.helpers import make_job as make_worker_job
from tests.bench.helpers import make_plan, run
from tests.tiny import CHANNELS, CLASSES

OURS = fake(fakes.SeesMarks, "ours", localizer=LOCALIZER_BACKENDS["ort-fp32"])
ORIGINAL = fake(fakes.DoesNotSee, "original", detects=False)
SNIPPETS = (30, 30, 24, 40, 26)


@pytest.fixture
def marked(tmp_path: Path) -> tuple[MeasuredVideos, Evaluation]:
    """Videos of two seconds a snippet, in which the marked snippets are annotated."""
    database = {}
    for n, snippets in enumerate(SNIPPETS):
        features = np.zeros((snippets, CHANNELS), np.float32)
        features[3 + n : 12 + n, 0] = 1
        np.save(tmp_path / f"v_{n}.npy", features)
        rows = [{"label": "polo", "segment": [2 * (3 + n), 2 * (12 + n)]}]
        database[str(n)] = {"duration": 2 * snippets, "annotations": rows}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    videos = read_videos(tmp_path, CHANNELS)
    return videos, read_evaluation(tmp_path / "gt.json", None, videos)


def random_plan(bundle: Path, folder: Path, *backends: Backend, snippets: tuple[int, ...], **options: Any) -> Plan:
    footage = {N: random_footage(N, CHANNELS, seed=0, folder=folder / str(N)) for N in snippets}
    return make_plan(bundle, *backends, footage=footage, snippets=snippets, **options)


def joined(videos: MeasuredVideos, evaluation: Evaluation, snippets: int, folder: Path) -> Footage:
    return joined_footage(videos, evaluation, snippets, CHANNELS, seed=0, folder=folder / "joined")


def report(plan: Plan) -> Results:
    return summarise(run(plan), complete=True)


def test_both_ways_are_measured_for_each_backend_and_length(bundle: Path, tmp_path: Path) -> None:
    plan = random_plan(bundle, tmp_path, ORIGINAL, OURS, snippets=(40, 5000), lengths=(16, 40))
    scale = plan.bundle.manifest.temporal_scale
    assert [[(key.backend.name, *key.case) for key in group] for group in plan.groups] == [
        [
            ("original", 40, 40, "whole"),  # as the original does, and only so
            ("ours", 16, 40, "whole"),
            ("ours", 40, 40, "whole"),  # once, although it is both T and N
            ("ours", scale, 40, "windows"),
        ],
        [  # 5000 snippets are more than the network takes at once
            ("ours", 16, 5000, "whole"),
            ("ours", 40, 5000, "whole"),
            ("ours", scale, 5000, "windows"),
        ],
    ]
    assert replace(plan, request=replace(plan.request, row_budget_s=10.0)).budget_s == 70
    torch = fake(fakes.Quick, "torch")
    modes = {key.case.mode for key in random_plan(bundle, tmp_path, torch, snippets=(40,)).groups[0]}
    assert modes == {"whole"}  # it has no windows


def test_a_job_says_mode_and_file(bundle: Path, tmp_path: Path, marked: tuple[MeasuredVideos, Evaluation]) -> None:
    videos, _ = marked
    footage = joined_footage(videos, None, 30, CHANNELS, seed=0, folder=tmp_path / "joined")
    plan = make_plan(bundle, OURS, videos=videos, footage={30: footage}, snippets=(30,))
    jobs = [make_job(plan, OURS, BenchmarkCase(16, 30, "windows"), launch) for launch in range(9)]
    assert {job.mode for job in jobs} == {"windows"}
    assert {job.features for job in jobs} == {str(footage.videos.files[video]) for video in footage.timed}
    assert make_job(plan, OURS, BenchmarkCase(16), 0).mode is None


def test_ratios_are_to_the_baseline_on_a_whole_video_at_its_own_length(bundle: Path, tmp_path: Path) -> None:
    rows = report(random_plan(bundle, tmp_path, ORIGINAL, OURS, snippets=(40, 5000), launches=3)).rows
    by_length: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        assert row.video is not None
        assert row.video.per_launch == (row.video.snippets,) * 3
        assert row.error is None
        by_length[row.video.snippets].append(row)
    assert [row.is_baseline for row in by_length[40]] == [True, False, False, False]
    assert all(row.ratio is not None and row.ratio.baseline == "original" for row in by_length[40])
    assert [row.ratio for row in by_length[5000]] == [None, None]
    assert set(by_length[40][0].stages) == {"import", "load", "prompts_warm", "forward"}
    assert set(by_length[40][-1].stages) == {"import", "load", "prompts_warm", "video"}
    assert by_length[40][-1].warmup_ms


def test_map_of_joined_videos_and_of_each_alone(
    bundle: Path, tmp_path: Path, marked: tuple[MeasuredVideos, Evaluation]
) -> None:
    videos, evaluation = marked
    footage = {60: joined(videos, evaluation, 60, tmp_path)}
    options: dict[str, Any] = {"videos": videos, "evaluation": evaluation, "footage": footage, "snippets": (60,)}
    original, *ours = report(make_plan(bundle, ORIGINAL, OURS, **options)).rows
    assert original.map is None
    for row in ours:
        assert row.map is not None
        assert row.video is not None
        assert row.video.map_alone is not None
        assert row.map["average"] == row.video.map_alone["average"] == 1
        assert row.map_change is None  # fp32 is not among the backends, and would take long
    shown = make_plan(bundle, fake(fakes.SeesMarks, "ort-fp32", localizer=LOCALIZER_BACKENDS["ort-fp32"]), **options)
    nothing = MapDifference(points=0.0, low=0.0, high=0.0)
    assert [row.map_change for row in report(shown).rows] == [nothing] * 3
    assert [row.video and row.video.alone_change for row in report(shown).rows] == [nothing] * 3


def test_a_video_that_ends_too_early_lowers_the_map_of_joined_videos(
    bundle: Path, tmp_path: Path, marked: tuple[MeasuredVideos, Evaluation]
) -> None:
    videos, evaluation = marked
    made = joined(videos, evaluation, 60, tmp_path)
    for path in made.videos.files.values():
        np.save(path, np.load(path)[:-7])
    plan = make_plan(
        bundle, OURS, videos=videos, evaluation=evaluation, footage={60: made}, snippets=(60,), lengths=(16,)
    )
    row = report(plan).rows[-1]
    assert row.map is not None
    assert row.map["average"] < 0.9
    assert row.video is not None
    assert row.video.map_alone is not None
    assert row.video.map_alone["average"] == 1
    change = row.video.alone_change
    assert change is not None
    assert change.low is not None
    assert change.high is not None
    assert change.points == pytest.approx(100 * (row.map["average"] - 1))
    assert change.low <= change.points <= change.high <= 0


@pytest.mark.usefixtures("marked")
def test_what_is_prepared_is_what_was_asked_for(bundle: Path, tmp_path: Path) -> None:
    request = BenchmarkRequest(
        bundle=bundle, backends=("ort-fp32",), snippets=(60, 150), features=tmp_path, ground_truth=tmp_path / "gt.json"
    )
    (tmp_path / "cache").mkdir()
    plan = prepare(request, tmp_path / "cache")
    for footage in plan.footage.values():
        assert sum(footage.videos.snippets.values()) == sum(SNIPPETS)
        assert footage.evaluation is not None
        assert all(path.is_relative_to(tmp_path / "cache") for path in footage.videos.files.values())
    assert list(plan.footage) == [60, 150]
    (tmp_path / "v_4.npy").unlink()
    np.save(tmp_path / "v_5.npy", np.ones((30, CHANNELS), np.float32))  # not annotated
    with pytest.raises(BenchmarkError, match="the 4 videos of --features have 124 snippets altogether"):
        prepare(request, tmp_path / "cache")


def test_a_length_that_nothing_can_run_is_refused(bundle: Path, tmp_path: Path) -> None:
    request = BenchmarkRequest(bundle=bundle, backends=("upstream-fp32",), snippets=(100, 4097))
    with pytest.raises(BenchmarkError, match=r"--snippets 4097: the original takes a whole video of 16 to 4,096"):
        prepare(request, tmp_path)
    with pytest.raises(ValueError, match="0 snippets, expected at least 1"):
        BenchmarkRequest(snippets=(5, 0))


def test_a_plan_without_the_videos_of_its_request_is_refused(bundle: Path) -> None:
    with pytest.raises(ValueError, match="no footage of 40 snippets"):
        make_plan(bundle, OURS, snippets=(40,))


def test_the_modes_are_those_of_stale_run(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "v_a.npy"
    np.save(path, np.random.default_rng(0).standard_normal((90, CHANNELS)).astype(np.float32))

    def found(**options: Any) -> tuple[Detection, ...]:
        localizer = Localizer.open(bundle, backend="ort-fp32", **options)
        return localizer.detect_file(path, CLASSES, timeline=Timeline(duration_s=60.0)).detections

    def measured(mode: str | None) -> tuple[Detection, ...]:
        job = make_worker_job(bundle, tmp_path, mode=mode, features=str(path))
        return tuple(Detection(*row) for row in LocalizerEngine(job).detect(path, 60.0).detections)

    by_default = found(length="auto", window="auto")
    whole = found(length=16, window="off")
    assert by_default != whole
    assert measured("windows") == by_default
    assert measured("whole") == measured(None) == whole


@pytest.mark.parametrize("name", ["ort-fp32", "torch-fp32", "upstream-fp32"])
def test_every_kind_of_engine_times_a_video_from_its_file(bundle: Path, tmp_path: Path, name: str) -> None:
    request = BenchmarkRequest(
        bundle=bundle, backends=(name,), snippets=(20,), lengths=(16,), launches=1, rounds=(1, 1)
    )
    rows = report(prepare(request, tmp_path)).rows
    assert [row.error for row in rows] == [None] * {"ort-fp32": 3, "torch-fp32": 2, "upstream-fp32": 1}[name]
    assert all(row.main is not None for row in rows)
    assert BACKENDS[name].detects == ("video" in rows[0].stages)
