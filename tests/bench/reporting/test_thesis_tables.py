from dataclasses import replace

from stale_bench.reporting import thesis_tables
from tests.bench.helpers import make_results, make_row

ORIGINAL = make_row(((900.0, 1100.0), (1200.0, 1200.0)), backend="upstream-int8", gmacs=92.0, peak_rss_mb=790.0)
OURS = make_row(((4.0, 4.0), (6.0, 6.0)), backend="ort-int8", gmacs=0.4, peak_rss_mb=95.0)


def test_seconds_are_mean_and_deviation_over_seeds() -> None:
    times, costs, notes = thesis_tables.thesis_table(make_results(ORIGINAL, OURS), "simple").split("\n\n")
    assert times.splitlines()[0].split() == ["T", "upstream-int8", "s", "ort-int8", "s", "ort-int8", "faster"]
    assert times.splitlines()[2].split() == ["100", "1.100", "±", "0.141", "0.0050", "±", "0.0014", "220x"]
    assert costs.splitlines()[2].split() == ["100", "92.0", "0.4", "790", "95"]
    assert "over 2 seeds" in notes


def test_a_failed_row_says_so() -> None:
    text = thesis_tables.thesis_table(make_results(ORIGINAL, replace(OURS, stages={}, error="killed")), "simple")
    assert "FAILED: ort-int8 T=100: killed" in text


def test_the_gpu_s_table() -> None:
    row = replace(ORIGINAL, gpu={"memory_mb": 1234.0, "utilisation": 0.87})
    lines = thesis_tables.gpu_table(make_results(row), "simple").splitlines()
    assert lines[2].split() == ["100", "1.100", "±", "0.141", "1234", "87%", "92.0"]


def test_a_driver_that_does_not_tell_the_utilisation_leaves_its_cell_empty() -> None:
    table = thesis_tables.gpu_table(make_results(make_row(gpu={"memory_mb": 512.0})), "github")
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells[2:4] == ["512", ""]
