import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_bench.benchmark_backends import BACKENDS
from stale_bench.benchmark_inputs import Evaluation, MeasuredVideos
from stale_bench.measuring import benchmark as benchmark_module
from stale_bench.measuring.benchmark import Benchmark
from stale_bench.measuring.peak_worker import KINDS
from stale_bench.measuring.plan import BenchmarkCase, BenchmarkRequest, Plan, make_job
from stale_bench.reporting.benchmark_results import PEAK, Results
from stale_bench.reporting.rows import main_by_round
from stale_bench.reporting.summary import summarise
from stale_bench.statistics.map_difference import MapDifference
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation, GroundTruth
from tests.bench import fakes
from tests.bench.fakes import BLOCK_MB, fake
from tests.bench.helpers import make_plan, run


def report(plan: Plan) -> Results:
    return summarise(run(plan), complete=True)


def test_a_known_time_shows_in_time_and_ratio(bundle: Path) -> None:
    quick, slow = report(make_plan(bundle, fake(fakes.Takes10), fake(fakes.Takes30), launches=3)).rows
    assert set(quick.stages["forward"].samples_ms) == set(quick.warmup_ms) == {10}
    assert set(slow.stages["forward"].samples_ms) == set(slow.warmup_ms) == {30}
    assert quick.stages["decode"].median_ms == 0
    assert (quick.repeats, slow.repeats) == (16, 8)  # as many as fit into a turn of 250 ms, at most 16
    assert quick.ratio is not None
    assert (quick.ratio.median, quick.ratio.low, quick.ratio.high) == pytest.approx((1, 1, 1))
    assert slow.ratio is not None
    assert (slow.ratio.median, slow.ratio.low, slow.ratio.high) == pytest.approx((3, 3, 3))


@pytest.mark.parametrize("kind", [fakes.Allocates, fakes.Frees])
def test_a_known_block_shows_in_the_peak_of_memory(bundle: Path, kind: type[fakes.Quick]) -> None:
    plain, larger = report(make_plan(bundle, fake(fakes.Quick), fake(kind))).rows
    for name in ("peak_rss_mb", "rss_rise_mb"):
        assert getattr(larger, name) - getattr(plain, name) == pytest.approx(BLOCK_MB, rel=0.1)
    assert plain.rss_rise_mb is not None
    assert plain.rss_rise_mb < 10


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (fakes.CannotLoad, "MemoryError: cannot allocate 99 GB"),
        (fakes.Dies, "ended with code 7: the reason"),
        (fakes.Killed, "killed by SIGKILL, as the system does when memory runs out"),
    ],
)
def test_a_process_that_dies_is_a_row_that_says_so_and_the_others_finish(
    bundle: Path, kind: type[fakes.Quick], says: str
) -> None:
    first, dead, last = report(make_plan(bundle, fake(fakes.Quick), fake(kind), fake(fakes.Quick, "other"))).rows
    assert dead.error == says
    for row in (first, last):
        assert row.error is None
        assert row.stages["forward"].n == 2 * row.repeats
        assert row.gmacs == 2.5


def test_what_was_measured_before_a_death_is_kept_and_the_dead_is_not_started_again(bundle: Path) -> None:
    (record,) = run(make_plan(bundle, fake(fakes.Killed), launches=3, rounds=(4, 4))).records
    assert len(record.launches) == 1
    assert record.launches[0].warmup_ms
    assert record.launches[0].peak_rss_mb is None


def test_a_dead_baseline_is_said_where_ratios_are_missing(bundle: Path) -> None:
    _, row = report(make_plan(bundle, fake(fakes.CannotLoad), fake(fakes.Quick))).rows
    assert row.ratio is None
    assert "the baseline cannotload failed" in row.warnings


def test_what_a_backend_runs_is_exported_once_a_length_before_its_processes_start(bundle: Path, tmp_path: Path) -> None:
    backend = fake(fakes.ReadsItsFile, exporter="tests.bench.fakes:write_file")
    rows = report(make_plan(bundle, backend, cache=tmp_path, lengths=(16, 32), launches=2)).rows
    assert [(row.error, row.file_mb) for row in rows] == [(None, 1.0), (None, 1.0)]
    assert all((tmp_path / f"{T}.txt").read_text() == "exported\n" for T in (16, 32))


def test_an_export_that_fails_is_a_row_that_says_so(bundle: Path) -> None:
    bad = fake(fakes.Quick, "bad", exporter="tests.bench.fakes:fail_to_export")
    failed, fine = report(make_plan(bundle, bad, fake(fakes.Quick))).rows
    assert failed.error == "OSError: no space left on device"
    assert not failed.stages
    assert fine.error is None


def test_the_machine_s_peak_is_measured_where_it_is_wanted(bundle: Path) -> None:
    plain = report(make_plan(bundle, fake(fakes.Quick)))
    assert plain.machine[PEAK] is None
    peaks = report(make_plan(bundle, fake(fakes.Quick), peak=True)).machine[PEAK]
    assert peaks.keys() == KINDS.keys()
    assert all(value > 0 for value in peaks.values())


def test_what_a_library_prints_is_no_answer(bundle: Path) -> None:
    (row,) = report(make_plan(bundle, fake(fakes.Chatty))).rows
    assert row.error is None


def test_every_launch_is_a_fresh_process_and_its_rounds_are_paired(bundle: Path) -> None:
    plan = make_plan(bundle, fake(fakes.Quick), fake(fakes.Quick, "other"), launches=4, rounds=(3, 3))
    benchmark = run(plan)
    for record in benchmark.records:
        assert [launch.number for launch in record.launches] == [0, 1, 2, 3]
        assert {len(rounds) for rounds in main_by_round(record).values()} == {3}
        assert all(
            len(turn.stages_ms["forward"]) == record.repeats for launch in record.launches for turn in launch.turns
        )
        assert ["prompts_cold" in launch.startup_ms() for launch in record.launches] == [True, True, True, False]


def test_the_budget_ends_the_launches_and_every_row_gets_one(bundle: Path) -> None:
    plan = make_plan(bundle, fake(fakes.Quick), lengths=(16, 32), launches=8, rounds=(1, 30), budget_s=0.01)
    assert [len(record.launches) for record in run(plan).records] == [1, 1]
    assert [len(record.launches[0].turns) for record in run(plan).records] == [1, 1]


def test_time_left_is_said(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(benchmark_module, "monotonic", lambda: float(next(clock)))
    said: list[tuple[str, float | None]] = []
    plan = make_plan(bundle, fake(fakes.Quick), launches=2, budget_s=100.0)
    Benchmark(plan=plan, say=lambda text, left_s: said.append((text, left_s))).run()
    assert said[0][0] == "launch 1, T=16: starting quick"
    left = [seconds for _, seconds in said if seconds is not None]
    assert len(left) == len(said)
    assert left == sorted(left, reverse=True)
    assert 80 < left[-1] < left[0] < 100


def test_each_launch_times_another_video(bundle: Path) -> None:
    files = {name: Path(f"{name}.npy") for name in "abc"}
    plan = make_plan(bundle, fake(fakes.Quick), videos=MeasuredVideos(files=files), seed=5)
    jobs = [make_job(plan, plan.backends[0], BenchmarkCase(16), launch) for launch in range(4)]
    assert {job.features for job in jobs[:3]} == {"a.npy", "b.npy", "c.npy"}
    assert jobs[3].features == jobs[0].features
    assert [job.seed for job in jobs] == [5, 6, 7, 8]
    assert make_job(make_plan(bundle, fake(fakes.Quick)), plan.backends[0], BenchmarkCase(16), 0).features is None


def test_an_interruption_leaves_what_was_measured(bundle: Path) -> None:
    def interrupt(text: str, _left_s: float | None) -> None:
        if text == "launch 2, T=16: round 2":
            raise KeyboardInterrupt

    plan = make_plan(bundle, fake(fakes.Quick), launches=3)
    benchmark = Benchmark(plan=plan, say=interrupt)
    with pytest.raises(KeyboardInterrupt):
        benchmark.run()
    results = summarise(benchmark, complete=False)
    assert not results.complete
    assert results.rows[0].stages["forward"].per_launch == (2 * results.rows[0].repeats, results.rows[0].repeats)


def test_map_is_over_the_declared_videos_and_compared_with_fp32(bundle: Path, tmp_path: Path) -> None:
    annotated = AnnotatedVideo(duration_s=60.0, annotations=(Annotation("polo", 10.0, 20.0),))
    truth = GroundTruth(videos={"a": annotated, "b": annotated})
    np.save(tmp_path / "v_a.npy", np.ones((20, 16), np.float32))
    evaluation = Evaluation(truth=truth, durations_s={"a": 60.0})
    videos = MeasuredVideos(files={"a": tmp_path / "v_a.npy"})
    blind_backend = replace(fake(fakes.Quick, "blind"), detects=False)
    fixed, blind = run(
        make_plan(bundle, fake(fakes.Quick), blind_backend, videos=videos, evaluation=evaluation)
    ).records
    assert fixed.evaluated is not None
    assert fixed.evaluated.by_tiou["average"] == pytest.approx(0.5)  # video b has no features, so its action is missed
    assert fixed.evaluated.by_tiou["0.95"] == pytest.approx(0.5)
    assert set(fixed.evaluated.resamples) == {0.0, 0.5, 1.0}  # neither, one or both of two draws are video a
    assert fixed.map_change is not None
    assert fixed.map_change.low is not None
    assert blind.error is None
    assert blind.evaluated is None
    assert blind.map_change is None


def test_map_is_compared_with_fp32_and_with_the_first_length_on_the_same_draws(bundle: Path, tmp_path: Path) -> None:
    annotated = AnnotatedVideo(duration_s=60.0, annotations=(Annotation("polo", 10.0, 20.0),))
    names = [f"v{n}" for n in range(12)]
    for name in names:
        np.save(tmp_path / f"{name}.npy", np.ones((20, 16), np.float32))
    evaluation = Evaluation(
        truth=GroundTruth(videos=dict.fromkeys(names, annotated)), durations_s=dict.fromkeys(names, 60.0)
    )
    videos = MeasuredVideos(files={name: tmp_path / f"{name}.npy" for name in names})
    better, worse = fake(fakes.Quick, "ort-fp32"), fake(fakes.MissesEveryThird)
    rows = report(make_plan(bundle, better, worse, videos=videos, evaluation=evaluation, lengths=(16, 32))).rows
    assert [(row.backend, row.length) for row in rows] == [
        ("ort-fp32", 16), ("misseseverythird", 16), ("ort-fp32", 32), ("misseseverythird", 32),
    ]  # fmt: skip
    nothing = MapDifference(points=0.0, low=0.0, high=0.0)
    assert [rows[n].map_change for n in (0, 2)] == [nothing, nothing]
    assert [row.length_change for row in rows] == [None, None, nothing, nothing]
    loss = rows[1].map_change
    assert loss is not None
    assert loss.low is not None
    assert loss.high is not None
    assert loss.points == pytest.approx(-100 / 3)
    assert -70 < loss.low < -50
    assert -20 < loss.high < 0
    assert loss.may_be_chance is False


def test_videos_that_an_approximation_leaves_to_the_exact_network_are_counted(bundle: Path, tmp_path: Path) -> None:
    names = [f"v{n}" for n in range(4)]
    annotated = AnnotatedVideo(duration_s=60.0, annotations=(Annotation("polo", 10.0, 20.0),))
    evaluation = Evaluation(
        truth=GroundTruth(videos=dict.fromkeys(names, annotated)), durations_s=dict.fromkeys(names, 60.0)
    )
    videos = MeasuredVideos(files={name: tmp_path / f"{name}.npy" for name in names})
    for path in videos.files.values():
        np.save(path, np.ones((20, 16), np.float32))
    plan = make_plan(
        bundle, fake(fakes.Approximates), fake(fakes.Quick, "ort-fp32"), videos=videos, evaluation=evaluation
    )
    approximate, exact = report(plan).rows
    assert (approximate.recomputed, exact.recomputed) == (2, None)
    assert any("the guard has the video" in warning for warning in approximate.warnings)
    assert not any("the guard" in warning for warning in exact.warnings)


def test_all_deployed_backends_of_a_bundle_run(bundle: Path, tmp_path: Path) -> None:
    backends = [b for n, b in BACKENDS.items() if n.startswith("ort-") and b.problem(Bundle(bundle)) is None]
    results = report(make_plan(bundle, *backends, cache=tmp_path / "cache"))
    for row in results.rows:
        assert row.error is None
        assert {"import", "load", "prompts_cold", "prompts_warm", "resample", "forward", "decode", "end_to_end"} == set(
            row.stages
        )
        assert row.gmacs is not None
        assert row.gmacs > 0
        assert (row.int8_share == 0) == (row.backend == "ort-fp32")
        assert row.file_mb == (bundle / str(BACKENDS[row.backend].file)).stat().st_size / 1e6
    assert json.loads(results.to_json())["rows"][0]["backend"] == "ort-fp32"


@pytest.mark.parametrize(
    "options",
    [
        {"launches": 0},
        {"rounds": (0, 1)},
        {"rounds": (3, 2)},
        {"budget_s": 0.0},
        {"ground_truth": Path("gt.json")},
        {"subset": "validation"},
        {"video_info": Path("info.csv")},
    ],
)
def test_impossible_requests_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|without"):
        BenchmarkRequest(**options)


def test_a_plan_without_backends_is_refused(bundle: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        make_plan(bundle)


def test_the_budget_is_for_all_rows_unless_there_is_none(bundle: Path) -> None:
    backends = fake(fakes.Quick), fake(fakes.Quick, "other")
    assert make_plan(bundle, *backends, lengths=(16, 32, 64), row_budget_s=30.0).budget_s == 180
    assert make_plan(bundle, *backends, budget_s=7.0, row_budget_s=30.0).budget_s == 7
    assert make_plan(bundle, *backends, row_budget_s=None).budget_s is None


def test_a_benchmark_that_has_not_started_has_empty_records(bundle: Path) -> None:
    (record,) = Benchmark(plan=make_plan(bundle, fake(fakes.Quick)), say=lambda _text, _left_s: None).records
    assert (record.launches, record.error, record.facts) == ((), None, None)
    assert main_by_round(record) == {}
