import pytest

from stale_bench.measuring.plan import BenchmarkCase
from stale_bench.measuring.records import Launch, Record
from stale_bench.protocol import Samples, Started
from stale_bench.reporting.rows import make_row, make_stage
from tests.bench import fakes
from tests.bench.fakes import fake


def record(*launches: list[list[float]], error: str | None = None) -> Record:
    """A record whose forward times are as given, by launch and turn."""
    return Record(
        backend=fake(fakes.Quick), case=BenchmarkCase(100), repeats=1, error=error, facts=None, evaluated=None,
        map_change=None,
        launches=tuple(
            Launch(
                number=number,
                started=Started(startup_ms={"import": 100.0 + number}, imported_rss_mb=50.0),
                warmup_ms=(),
                turns=tuple(Samples(stages_ms={"forward": tuple(samples)}) for samples in turns),
                prompts_cold_ms=None,
                peak_rss_mb=80.0 + number,
            )
            for number, turns in enumerate(launches)
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("n", "has_p90", "has_p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_percentiles_need_their_samples(n: int, has_p90: bool, has_p99: bool) -> None:
    stage = make_stage([[float(i) for i in range(n)]])
    assert stage.n == n
    assert stage.median_ms == pytest.approx((n - 1) / 2)
    assert stage.p90_ms == (pytest.approx(0.90 * (n - 1)) if has_p90 else None)
    assert stage.p99_ms == (pytest.approx(0.99 * (n - 1)) if has_p99 else None)


def test_a_row_reports_all_launches() -> None:
    made = record([[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]])
    row = make_row(made, made, threads=2, classes=7)
    assert (row.threads, row.classes, row.batch) == (2, 7, 1)
    assert list(row.stages["forward"].samples_ms) == [1, 2, 3, 4, 5, 6]
    assert list(row.stages["forward"].per_launch) == [4, 2]
    assert list(row.stages["import"].samples_ms) == [100, 101]
    assert (row.peak_rss_mb, row.rss_rise_mb) == (81, 31)
    assert "decode" not in row.stages


def test_the_ratio_is_of_launches_that_both_have() -> None:
    ours, theirs = record(*[[[4.0, 4.0]]] * 4), record(*[[[2.0, 2.0]]] * 3)
    row = make_row(ours, theirs, threads=1, classes=1)
    assert row.ratio is not None
    assert (row.ratio.median, row.ratio.low, row.ratio.high) == pytest.approx((2, 2, 2))


def test_a_machine_that_is_not_quiet_is_warned_about() -> None:
    quiet, noisy = [[1.0, 1.01, 1.0, 1.02]], [[1.0, 1.5, 1.0, 1.6]]
    assert make_row(record(*[quiet] * 3), record(quiet), threads=1, classes=1).warnings == ()
    (warning,) = make_row(record(*[noisy] * 3), record(quiet), threads=1, classes=1).warnings
    assert "not quiet" in warning


def test_launches_that_differ_are_no_sign_of_noise() -> None:
    made = record(*[[[scale, scale, scale, scale]] for scale in (1.0, 2.0, 3.0)])
    assert make_row(made, made, threads=1, classes=1).warnings == ()


def test_too_few_launches_are_warned_about_and_failures_are_not_warned_about_twice() -> None:
    made = record([[1.0]])
    assert "1 of the 3 processes" in make_row(made, made, threads=1, classes=1).warnings[0]
    assert make_row(record([[1.0]], error="dead"), made, threads=1, classes=1).warnings == ()
