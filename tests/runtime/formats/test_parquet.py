"""Parquet: what other programs read, and what is refused of what anybody may have written."""

import io
from pathlib import Path
from typing import Any

import pytest

from stale_runtime.detections import VideoDetections
from stale_runtime.errors import DatasetError, FeatureError
from stale_runtime.formats import parquet_results
from stale_runtime.formats.parquet_results import ParquetResults
from stale_runtime.formats.parquet_table import parquet_pieces, parquet_schema
from stale_runtime.formats.registry import FORMATS
from stale_runtime.formats.result_rows import row_of_result
from tests.runtime.formats.results import result_of, video_of

pa = pytest.importorskip("pyarrow", reason="no pyarrow; install it with: pip install '.[parquet]'")
parquet = pytest.importorskip("pyarrow.parquet")
_ROW = row_of_result(video_of(("Jump", 1.0, 2.5, 0.75), ("Jump", 0.1, 0.2, 0.3), name="a"), "{}")


def write(path: Path, *rows: Any) -> Path:
    path.write_bytes(b"".join(parquet_pieces(rows)))
    return path


def test_other_programs_read_a_row_a_video_with_its_detections() -> None:
    broken = (Path("v_bad.npy"), FeatureError("v_bad.npy: empty"))
    videos = [
        video_of(("Jump", 1.0, 2.5, 0.75), ("Polo", 0.1, 0.2, 0.3), name="c"),
        video_of(name="a", duration_s=None),
    ]
    result = result_of(*videos, failed=(broken,), min_score=0.5, settings={"b": 1, "a": None})
    table = parquet.read_table(io.BytesIO(FORMATS["parquet"].content(result)))
    columns = "video status error message duration_s window recomputed detections settings"
    assert table.schema.names == columns.split()
    assert str(table.schema.field("detections").type.value_type) == (
        "struct<label: string, start: double, end: double, score: double>"
    )
    assert table["video"].to_pylist() == ["a", "bad", "c"]
    assert table["status"].to_pylist() == ["ok", "failed", "ok"]
    assert table["error"].to_pylist() == [None, "FeatureError", None]
    assert table["message"].to_pylist()[1] == "v_bad.npy: empty"
    assert table["duration_s"].to_pylist() == [None, None, 100.0]
    jump = {"label": "Jump", "start": 1.0, "end": 2.5, "score": 0.75}
    assert table["detections"].to_pylist() == [[], [], [jump]]  # --min-score left out the other
    assert set(table["settings"].to_pylist()) == {'{"a":null,"b":1}'}


def test_rows_are_written_group_by_group_and_read_back(tmp_path: Path) -> None:
    rows = [{**_ROW, "video": f"{n:05}"} for n in range(2500)]
    path = write(tmp_path / "a.parquet", *rows)
    assert parquet.ParquetFile(path).metadata.num_row_groups == 3
    results = list(ParquetResults.open(path).results())
    assert [result.video for result in results] == [f"{n:05}" for n in range(2500)]
    assert isinstance(results[0], VideoDetections)
    assert results[0].detections == video_of(("Jump", 1.0, 2.5, 0.75), ("Jump", 0.1, 0.2, 0.3)).detections


def test_an_empty_table_has_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    assert parquet.read_schema(path).equals(parquet_schema())
    assert list(ParquetResults.open(path).results()) == []


def test_rows_of_another_run_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", _ROW, {**_ROW, "settings": '{"a":1}'})
    with pytest.raises(DatasetError, match="row 2: of a run with other settings than row 1"):
        list(ParquetResults.open(path).results())


def test_numbers_that_no_run_writes_are_refused(tmp_path: Path) -> None:
    rows = [{**_ROW, "detections": [{"label": "Jump", "start": 0.0, "end": 1.0, "score": float("nan")}]}]
    with pytest.raises(DatasetError, match=r"row 1: video 'a': detection .* expected finite numbers"):
        list(ParquetResults.open(write(tmp_path / "a.parquet", *rows)).results())


@pytest.mark.parametrize("kept", [4, 100, 900])
def test_a_torn_file_is_refused(kept: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", _ROW)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DatasetError, match="not a Parquet file that can be read"):
        ParquetResults.open(path)


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", _ROW)
    data = bytearray(path.read_bytes())
    place = parquet.ParquetFile(path).metadata.row_group(0).column(0)
    start = place.dictionary_page_offset or place.data_page_offset
    data[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="damaged"):
        list(ParquetResults.open(path).results())


def test_other_columns_are_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"video": ["a"], "status": ["ok"]}), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="no column error, message"):
        ParquetResults.open(tmp_path / "a.parquet")


def test_a_small_file_with_very_many_values_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = _ROW["detections"][:1]
    path = write(tmp_path / "a.parquet", {**_ROW, "detections": same * 100_000})
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(parquet_results, "MOST_VALUES", 99_999)
    with pytest.raises(DatasetError, match="100,000 values"):
        ParquetResults.open(path)
    monkeypatch.undo()
    monkeypatch.setattr(parquet_results, "LARGEST_ROW_GROUP", 100)
    with pytest.raises(DatasetError, match="a row group of"):
        list(ParquetResults.open(path).results())
