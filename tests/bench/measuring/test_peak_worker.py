import numpy as np
import pytest

from stale_bench.measuring import peak_worker
from stale_bench.measuring.peak_worker import COLUMNS, INNER, KINDS, ROWS, PeakWorker, make_product
from stale_bench.protocol import MeasurePeak, Peak, PeakJob


@pytest.mark.parametrize("constant", [True, False])
def test_products_are_real_ones_and_the_same_in_float_and_in_integers(constant: bool) -> None:
    in_float, in_integers = (make_product(kind, threads=1)()[0] for kind in KINDS.values() if kind.constant is constant)
    assert in_float.shape == in_integers.shape == (ROWS, COLUMNS)
    assert in_integers.dtype == np.int32
    np.testing.assert_allclose(in_float, in_integers, rtol=1e-5)
    assert in_integers.mean() == pytest.approx(INNER * 49.5**2, rel=0.01)  # of numbers from 0 to 99


def test_the_fastest_product_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    durations_s = iter([0.5, *([0.02, 0.01, 0.04] * 100)])

    def multiply() -> None:
        nonlocal now
        now += next(durations_s)

    monkeypatch.setattr(peak_worker, "make_product", lambda _kind, _threads: multiply)
    monkeypatch.setattr(peak_worker, "perf_counter", lambda: now)
    job = PeakJob(bundle="", backend="peak", classes=(), threads=1, cpus=(), seed=0)
    answer = PeakWorker(job).answer(MeasurePeak())
    assert isinstance(answer, Peak)
    assert answer.gmacs_per_s == pytest.approx(dict.fromkeys(KINDS, ROWS * INNER * COLUMNS / 1e9 / 0.01))
