from dataclasses import replace

from stale_bench.reporting import thesis_tables
from stale_bench.reporting.benchmark_results import Results
from stale_bench.reporting.report_tables import draw_report
from tests.bench.helpers import make_results, make_row, ratio

ORIGINAL = make_row(((900.0, 1100.0), (1200.0, 1200.0)), backend="upstream-int8", gmacs=92.0, peak_rss_mb=790.0)
OURS = make_row(((4.0, 4.0), (6.0, 6.0)), backend="ort-int8", gmacs=0.4, peak_rss_mb=95.0)
RATIO = ratio(1 / 220, 1 / 250, 1 / 200, baseline="upstream-int8")


def thesis(results: Results, style: str) -> str:
    return draw_report(thesis_tables.thesis_report(results), style)


def gpu(results: Results, style: str) -> str:
    return draw_report(thesis_tables.gpu_report(results), style)


def test_seconds_are_mean_and_deviation_over_seeds() -> None:
    times, _, costs, notes = thesis(make_results(ORIGINAL, OURS), "simple").split("\n\n")
    assert times.splitlines()[0].split() == ["T", "upstream-int8", "s", "ort-int8", "s", "ort-int8", "faster"]
    assert times.splitlines()[2].split() == ["100", "1.100", "±", "0.141", "0.0050", "±", "0.0014"]
    assert costs.splitlines()[2].split() == ["100", "92.0", "0.4", "790", "95"]
    assert "over 2 seeds" in notes
    assert "1 thread on CPU 1 of Abacus 3000; 3 classes" in notes


def test_a_speedup_has_the_interval_of_its_ratio() -> None:
    results = make_results(ORIGINAL, replace(OURS, ratio=RATIO))
    times, _, _, notes = thesis(results, "github").split("\n\n")
    assert times.splitlines()[2].split("|")[-2].strip() == "220x [200, 250]"
    assert "99% interval" in notes


def test_a_ratio_to_another_backend_is_no_speedup_over_the_original() -> None:
    results = make_results(ORIGINAL, replace(OURS, ratio=ratio(0.5, 0.4, 0.6, baseline="ort-fp32")))
    times = thesis(results, "simple").split("\n\n")[0]
    assert times.splitlines()[2].split()[-1] == "0.0014"


def test_what_makes_a_row_uncertain_is_said() -> None:
    text = thesis(make_results(ORIGINAL, replace(OURS, warnings=("too loud",))), "simple")
    assert "warning: ort-int8 T=100: too loud" in text


def test_a_failed_row_says_so() -> None:
    text = thesis(make_results(ORIGINAL, replace(OURS, stages={}, error="killed")), "simple")
    assert "FAILED: ort-int8 T=100: killed" in text


def test_the_gpu_s_table() -> None:
    row = replace(ORIGINAL, gpu={"memory_mb": 1234.0, "utilisation": 0.87})
    lines = gpu(make_results(row), "simple").splitlines()
    assert lines[2].split() == ["100", "1.100", "±", "0.141", "1234", "87%", "92.0"]


def test_a_driver_that_does_not_tell_the_utilisation_leaves_its_cell_empty() -> None:
    table = gpu(make_results(make_row(gpu={"memory_mb": 512.0})), "github")
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells[2:4] == ["512", ""]
