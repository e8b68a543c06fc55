from dataclasses import replace
from pathlib import Path

import pytest

from stale_bench.benchmark_backends import BACKENDS
from stale_bench.reporting import thesis
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.errors import BenchmarkError
from tests.bench.helpers import make_results, make_row

ORIGINAL = make_row(((900.0, 1100.0), (1200.0, 1200.0)), backend="upstream-int8", gmacs=92.0, peak_rss_mb=790.0)
OURS = make_row(((4.0, 4.0), (6.0, 6.0)), backend="ort-int8", gmacs=0.4, peak_rss_mb=95.0)


def test_the_sixteen_lengths() -> None:
    assert len(thesis.LENGTHS) == 16
    assert (thesis.LENGTHS[0], thesis.LENGTHS[-1]) == (100, 3000)


def test_seconds_are_mean_and_deviation_over_seeds() -> None:
    times, costs, notes = thesis.thesis_table(make_results(ORIGINAL, OURS), "simple").split("\n\n")
    assert times.splitlines()[0].split() == ["T", "upstream-int8", "s", "ort-int8", "s", "ort-int8", "faster"]
    assert times.splitlines()[2].split() == ["100", "1.100", "±", "0.141", "0.0050", "±", "0.0014", "220x"]
    assert costs.splitlines()[2].split() == ["100", "92.0", "0.4", "790", "95"]
    assert "over 2 seeds" in notes


def test_a_failed_row_says_so() -> None:
    text = thesis.thesis_table(make_results(ORIGINAL, replace(OURS, stages={}, error="killed")), "simple")
    assert "FAILED: ort-int8 T=100: killed" in text


def test_the_gpu_s_table() -> None:
    row = replace(ORIGINAL, gpu={"memory_mb": 1234.0, "utilisation": 0.87})
    lines = thesis.gpu_table(make_results(row), "simple").splitlines()
    assert lines[2].split() == ["100", "1.100", "±", "0.141", "1234", "87%", "92.0"]


def test_the_original_and_what_of_ours_the_bundle_has(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, left_out = thesis.choose_cpu(Bundle(bundle))
    assert chosen[0].name == "upstream-int8"
    assert {backend.name for backend in chosen[1:]} | left_out.keys() == set(thesis.OURS)
    broken = replace(BACKENDS["upstream-int8"], needs=("no_such_module",))
    monkeypatch.setattr(thesis, "BACKENDS", {**BACKENDS, "upstream-int8": broken})
    with pytest.raises(BenchmarkError, match="needs no_such_module"):
        thesis.choose_cpu(Bundle(bundle))


def test_a_machine_without_gpu_is_told_so(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BenchmarkError, match="finds no GPU"):
        thesis.choose_gpu(Bundle(bundle))
