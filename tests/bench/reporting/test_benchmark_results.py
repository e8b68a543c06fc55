import json
from dataclasses import replace
from pathlib import Path

import pytest

from stale_bench.reporting.benchmark_results import (
    FORMAT_VERSION,
    MOST_LAUNCHES,
    check_can_be_shown,
    read_benchmark_results,
)
from stale_bench.statistics.map_difference import MapDifference
from stale_runtime.errors import DatasetError
from tests.bench.helpers import make_results, make_row, make_video_row, ratio

RESULTS = make_results(
    make_row(
        map={"average": 0.5, "0.50": 0.7}, ratio=ratio(2.0, None, None), gpu={"memory_mb": 3.0}, warnings=("loud",)
    ),
    make_row(backend="ort-int8", error="dead", peak_rss_mb=100.0),
)
VIDEOS = make_results(
    make_video_row(300, "whole", length=300, ratio=ratio(1.0, None, None)),
    make_video_row(300, "windows", per_launch=(310, 305), map={"average": 0.4}, map_alone={"average": 0.5}),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(RESULTS.to_json())
    assert read_benchmark_results(tmp_path / "r.json") == RESULTS
    (tmp_path / "v.json").write_text(VIDEOS.to_json())
    assert read_benchmark_results(tmp_path / "v.json") == VIDEOS


def test_a_file_of_version_2_has_changes_without_intervals(tmp_path: Path) -> None:
    content = json.loads(VIDEOS.to_json())
    content["format_version"] = 2
    for row in content["rows"]:
        del row["length_change"], row["map_resamples"], row["recomputed"], row["video"]["alone_change"]
    content["rows"][1]["map_change"] = -0.006
    (tmp_path / "r.json").write_text(json.dumps(content))
    first, second = read_benchmark_results(tmp_path / "r.json").rows
    assert (first.map_change, first.length_change, first.map_resamples) == (None, None, None)
    assert second.map_change == MapDifference(points=-0.6, low=None, high=None)
    assert second.video is not None
    assert second.video.alone_change is not None
    assert second.video.alone_change.points == pytest.approx(-10)
    assert second.video.alone_change.low is None


def test_a_file_of_version_3_has_no_backend_that_approximates(tmp_path: Path) -> None:
    content = json.loads(VIDEOS.to_json())
    content["format_version"] = 3
    for row in content["rows"]:
        del row["recomputed"]
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert read_benchmark_results(tmp_path / "r.json") == VIDEOS


def test_a_file_of_version_1_has_no_videos(tmp_path: Path) -> None:
    content = json.loads(RESULTS.to_json())
    content["format_version"] = 1
    for row in content["rows"]:
        del row["length_change"], row["map_resamples"], row["recomputed"], row["video"]
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert read_benchmark_results(tmp_path / "r.json") == RESULTS


@pytest.mark.parametrize("rows", [5, [5], [{"video": 5, "map_change": "x"}], [{}]])
@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_damage_is_found_in_files_of_every_version(tmp_path: Path, version: int, rows: object) -> None:
    content = {**json.loads(RESULTS.to_json()), "format_version": version, "rows": rows}
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"r\.json: damaged"):
        read_benchmark_results(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("map_change", {"points": 5.0, "low": 3.0, "high": 1.0}),
        ("map_change", 5.0),
        ("ratio", {"baseline": "ort-fp32", "median": 0.0, "low": None, "high": None}),
        ("ratio", {"baseline": "ort-fp32", "median": 1.0, "low": 0.0, "high": 2.0}),
        ("map", {"average": 1.5}),
        ("map_resamples", []),
        ("map_resamples", [0.5] * 20_000),
        ("length", 0),
        ("recomputed", -1),
        ("peak_rss_mb", -1.0),
    ],
)
def test_a_row_that_cannot_be_is_refused(tmp_path: Path, field: str, value: object) -> None:
    content = json.loads(RESULTS.to_json())
    content["rows"][0][field] = value
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"r\.json: damaged .*; measure again$"):
        read_benchmark_results(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("name", "value"), [("threads", "many"), ("cpus", None), ("inputs", 5), ("confidence", None), ("launches", 0.5)]
)
def test_conditions_that_a_report_needs_are_checked(name: str, value: object) -> None:
    check_can_be_shown(RESULTS, "r.json")
    with pytest.raises(DatasetError, match=rf"r\.json: damaged \(protocol\.{name} is"):
        check_can_be_shown(replace(RESULTS, protocol={**RESULTS.protocol, name: value}), "r.json")


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"machine\.cpu is None"):
        check_can_be_shown(replace(RESULTS, machine={}), "r.json")
    with pytest.raises(DatasetError, match="no row"):
        check_can_be_shown(replace(RESULTS, rows=()), "r.json")
    impossible: tuple[object, ...] = (
        None,
        {},
        {"300": []},
        {"300": [299]},
        {"300": [300, 5, 5]},
        {"x": [300]},
        {"300": 300},
    )
    for footage in impossible:
        with pytest.raises(DatasetError, match=r"protocol\.footage"):
            check_can_be_shown(replace(VIDEOS, protocol={**VIDEOS.protocol, "footage": footage}), "r.json")
    check_can_be_shown(replace(VIDEOS, protocol={**VIDEOS.protocol, "footage": {"300": [310, 305, 5]}}), "r.json")


def test_the_documented_fields_are_there() -> None:
    content = json.loads(RESULTS.to_json())
    assert {"rows", "format_version", "created", "machine", "versions", "bundle_sha256", "protocol"} <= content.keys()
    row = content["rows"][0]
    assert {
        "backend",
        "length",
        "batch",
        "threads",
        "classes",
        "stages",
        "ratio",
        "peak_rss_mb",
        "rss_rise_mb",
    } <= row.keys()
    assert {"file_mb", "gmacs", "int8_share", "map", "warnings"} <= row.keys()
    assert {"median_ms", "p90_ms", "p99_ms", "n", "samples_ms"} <= row["stages"]["forward"].keys()
    assert row["ratio"].keys() == {"baseline", "median", "low", "high"}
    assert content["rows"][1]["map"] is None


def test_rows_are_found() -> None:
    assert RESULTS.row("ort-int8", 100) is RESULTS.rows[1]
    assert RESULTS.row("ort-int8", 200) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "not a result of stale-bench"),
        ('{"rows": []}', "not a result of stale-bench"),
        ('{"rows": [], "format_version": 99}', "format_version 99, this version of stale-edge reads"),
        (f'{{"rows": [], "format_version": {FORMAT_VERSION}}}', "damaged"),
        (RESULTS.to_json().replace('"length": 100', '"length": "long"'), "damaged"),
        (RESULTS.to_json().replace('"n": 3', '"m": 3'), "damaged"),
        ("{", "not valid JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DatasetError, match=says):
        read_benchmark_results(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"median_ms": 0.0}, "stages.forward.median_ms is 0"),
        ({"median_ms": -1.0}, "median_ms is -1"),
        ({"median_ms": 1e308}, r"median_ms is 1e\+308"),
        ({"samples_ms": [], "per_launch": [], "n": 0}, "samples_ms has 0 samples"),
        ({"samples_ms": []}, "samples_ms has 0 samples"),
        ({"n": 4}, "samples_ms has 3 samples"),
        ({"per_launch": [2]}, "samples_ms has 3 samples"),
        ({"per_launch": [-5, 8]}, "per_launch has 2 launches"),
        ({"per_launch": [2, 1, *[0] * MOST_LAUNCHES]}, "per_launch has 10002 launches"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    content = json.loads(RESULTS.to_json())
    content["rows"][0]["stages"]["forward"].update(changes)
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=rf"r\.json: damaged \({says}.*; measure again$"):
        read_benchmark_results(tmp_path / "r.json")


def test_map_without_an_average_is_refused(tmp_path: Path) -> None:
    content = json.loads(RESULTS.to_json())
    del content["rows"][0]["map"]["average"]
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="map has no average"):
        read_benchmark_results(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"snippets": 0}, "0 snippets"),
        ({"per_launch": [0, 5]}, "expected at least 1"),
        ({"per_launch": [5]}, "different numbers of launches"),
        ({"map_alone": {"0.50": 0.5}}, "map_alone has no average"),
        ({"mode": 5}, "mode is '5'"),
    ],
)
def test_videos_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    content = json.loads(VIDEOS.to_json())
    content["rows"][1]["video"].update(changes)
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=says):
        read_benchmark_results(tmp_path / "r.json")


def test_the_baseline_is_the_whole_video_at_its_own_length() -> None:
    whole, windows = VIDEOS.rows
    assert whole.is_baseline
    assert not replace(windows, ratio=whole.ratio).is_baseline
    assert not replace(whole, length=100).is_baseline
    assert RESULTS.rows[0].is_baseline
    assert VIDEOS.row("ort-fp32", 300) is None


def test_an_interrupted_run_says_so() -> None:
    assert json.loads(replace(RESULTS, complete=False).to_json())["complete"] is False
