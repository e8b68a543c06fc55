import math

import pytest

from stale_bench.reporting.benchmark_results import PEAK
from stale_bench.reporting.peak_share import peak_notes, peak_share, read_peaks
from tests.bench.helpers import make_results, make_row

PEAKS = {"fp32": 100.0, "fp32 of two activations": 90.0, "int8": 400.0}
ROW = make_row(((10.0,), (10.0,)), backend="ort-int8", gmacs=1.0, int8_share=0.8)


def test_the_share_is_the_time_at_the_peak_over_the_time_that_it_took() -> None:
    assert peak_share(ROW, PEAKS) == pytest.approx((0.8 / 400 + 0.2 / 100) / 0.010)


@pytest.mark.parametrize(
    "row",
    [
        make_row((), backend="ort-int8", gmacs=1.0, int8_share=0.8),
        make_row(backend="ort-int8"),
        make_row(backend="openvino-bf16", gmacs=1.0, int8_share=0.0),
        make_row(backend="of another version", gmacs=1.0, int8_share=0.0),
    ],
)
def test_what_has_no_peak_has_no_share(row: object) -> None:
    assert peak_share(row, PEAKS) is None  # type: ignore[arg-type]
    assert peak_share(ROW, {"fp32": 100.0}) is None


@pytest.mark.parametrize("content", [None, 5, [], {"fp32": "many", "int8": 0.0}, {"fp32": -1.0, "int8": math.nan}])
def test_peaks_of_a_file_that_are_none_are_ignored(content: object) -> None:
    results = make_results(ROW, machine={"cpu": "Abacus 3000", PEAK: content})
    assert read_peaks(results) == {}
    assert peak_notes(results) == []


def test_a_note_says_what_the_peak_is() -> None:
    (note,) = peak_notes(make_results(ROW, machine={"cpu": "Abacus 3000", PEAK: PEAKS}))
    assert "in GMACs a second: 100 in fp32, 90 in fp32 of two activations, 400 in int8." in note
