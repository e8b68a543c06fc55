import re
from dataclasses import replace

import pytest

from stale_bench.reporting.bench_page import LONGEST_TEXT, MOST_SAMPLES, MOST_SAMPLES_OF_STAGE, bench_page
from stale_bench.reporting.benchmark_results import Results
from stale_bench.reporting.report import make_report, make_thesis_report
from stale_bench.statistics.map_difference import MapDifference
from tests.bench.helpers import make_results, make_row, make_video_row, ratio
from tests.page.html_reader import HtmlReader

HOSTILE = "</script></title><img src=x onerror=alert(1)>\u202e\x00'\"&" + 10_000 * "x"
LOSS = MapDifference(points=-2.0, low=-3.5, high=-0.5)
NOISE = MapDifference(points=0.5, low=-1.0, high=2.0)
NOTHING = MapDifference(points=0.0, low=0.0, high=0.0)
MAP = {"average": 0.5, "0.50": 0.7, "0.75": 0.4, "0.95": 0.1}
RESULTS = make_results(
    make_row(((4.0, 5.0), (6.0, 7.0)), ratio=ratio(1, 1, 1), peak_rss_mb=100.0, map=MAP, map_change=NOTHING),
    make_row(
        ((2.0, 3.0), (2.5, 2.25)), backend="ort-int8", ratio=ratio(0.5, 0.4, 0.6), peak_rss_mb=90.0, map=MAP,
        map_change=LOSS,
    ),
    make_row(backend="torch-int8", peak_rss_mb=300.0, map=MAP, map_change=NOISE, warnings=("too loud",)),
)  # fmt: skip


def page_of(results: Results) -> str:
    return bench_page(results, make_report(results))


def read(results: Results) -> HtmlReader:
    return HtmlReader(page_of(results))


def test_a_page_has_the_tables_and_notes_of_the_report() -> None:
    texts = read(RESULTS).texts
    report = make_report(RESULTS)
    for table in report.tables:
        assert {text for line in table.lines for text in line if text} <= set(texts)
        assert set(table.headers) <= {*texts, ""}
    assert set(report.notes) <= set(texts)
    assert "-2.00 [-3.50, -0.50]" in texts
    assert "+0.50 [-1.00, +2.00] noise" in texts


def test_every_point_says_its_value_and_interval() -> None:
    texts = read(RESULTS).texts
    assert "ort-int8, 100 snippets: 2.375 (2.375 to 2.5)" in texts
    assert "ort-int8, 100 snippets: 50 (48.5 to 51.5)" in texts  # ort-fp32 has 52


def test_changes_that_may_be_chance_look_and_read_otherwise() -> None:
    page = page_of(RESULTS)
    assert re.search(r'class="difference clear"><title>ort-int8 T=100: -2.00', page)
    assert re.search(r'class="difference chance"><title>torch-int8 T=100: \+0.50', page)
    assert "1 of 2 may be chance." in page


def test_changes_without_intervals_say_so() -> None:
    old = MapDifference(points=-0.6, low=None, high=None)
    page = page_of(make_results(replace(RESULTS.rows[1], map_change=old)))
    assert 'class="difference unknown"' in page
    assert "1 without intervals, because an older version measured them" in page


def test_nothing_can_run_and_nothing_is_loaded() -> None:
    page = page_of(RESULTS)
    elements = read(RESULTS).elements
    assert "script" not in read(RESULTS).tags
    assert not [attributes for _, attributes in elements if "style" in attributes]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert [value for _, attributes in elements for name in ("src", "href") if (value := attributes.get(name))] == [
        "data:,"
    ]
    assert "default-src 'none'" in page
    assert "script-src 'none'" in page


def test_text_of_a_results_file_is_never_markup_and_never_endless() -> None:
    row = replace(RESULTS.rows[1], backend=HOSTILE, error=HOSTILE, warnings=(HOSTILE,))
    results = replace(
        make_results(row, unavailable={HOSTILE: HOSTILE}),
        created=HOSTILE, versions={HOSTILE: HOSTILE}, machine={"cpu": HOSTILE, HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]},
    )  # fmt: skip
    page = read(results)
    assert {*page.tags} == {*read(RESULTS).tags}
    assert max(map(len, (text for text in page.texts if "xxx" in text))) <= 2 * LONGEST_TEXT
    assert not any("\u202e" in text or "\x00" in text for text in page.texts)


def test_samples_are_shown_by_process_and_not_endlessly() -> None:
    assert "4 5 | 6 7" in read(RESULTS).texts
    many = make_row((tuple(float(n % 7 + 1) for n in range(1000)), (2.0,) * 1000))
    page = page_of(make_results(many))
    shown = re.findall(r'class="samples">([^<]*)<', page)
    assert len(shown[0].split()) == MOST_SAMPLES_OF_STAGE + 1
    assert shown[0].endswith(" ...")
    rows = [replace(many, backend=f"b{n}") for n in range(300)]
    shown = re.findall(r'class="samples">([^<]*)<', page_of(make_results(*rows)))
    assert sum(len(text.split()) for text in shown) <= MOST_SAMPLES + len(shown)


def test_conditions_are_all_there() -> None:
    texts = read(replace(RESULTS, machine={"cpu": "Abacus", "caches": {"L1": 32, "L2": None}, "empty": []})).texts
    for name, value in (("cpu", "Abacus"), ("caches, L1", "32"), ("caches, L2", "none"), ("bundle_sha256", "00ff")):
        assert texts[texts.index(name) + 1] == value


@pytest.mark.parametrize(
    "results",
    [
        make_results(make_row((), error="dead")),
        make_results(make_video_row(100, "windows", map={"average": 0.5}, map_alone={"average": 0.6})),
        replace(make_results(make_row()), complete=False),
    ],
)
def test_every_kind_of_result_has_a_page(results: Results) -> None:
    footage = {"100": [100]}
    results = replace(results, protocol={**results.protocol, "footage": footage})
    assert page_of(results).endswith("</html>\n")


def test_the_thesis_has_a_page() -> None:
    original = make_row(((900.0,), (1100.0,)), backend="upstream-int8")
    results = make_results(original, make_row(((4.0,), (6.0,))))
    page = bench_page(results, make_thesis_report(results))
    assert "1.000 ± 0.141" in page


def test_tables_can_be_reached_and_are_named() -> None:
    elements = read(RESULTS).elements
    regions = [attributes for tag, attributes in elements if tag == "div" and attributes.get("role") == "region"]
    assert [region["aria-label"] for region in regions] == [table.caption for table in make_report(RESULTS).tables]
    assert all(region["tabindex"] == "0" for region in regions)
    assert all(attributes.get("aria-label") for tag, attributes in elements if attributes.get("role") == "img")
    assert read(RESULTS).tags.count("h1") == 1
