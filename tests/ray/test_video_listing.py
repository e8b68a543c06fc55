from pathlib import Path
from typing import Any

import pytest

from stale_runtime.errors import DatasetError, FeatureError
from stale_runtime.ray_data.video_listing import ListedVideo, read_listing


def write(path: Path, columns: dict[str, Any]) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_with_ids_text_and_a_folder_list_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "features"
    folder.mkdir()
    for name in ("v_a.npy", "b.npy"):
        (folder / name).touch()
    (tmp_path / "list.txt").write_text(f"features/b.npy\n\n  {folder / 'v_a.npy'}\n")
    paths = [str(folder / "b.npy"), str(folder / "v_a.npy")]
    expected = [ListedVideo("b", paths[0]), ListedVideo("a", paths[1])]
    assert read_listing(tmp_path / "list.txt") == expected
    assert read_listing(folder) == expected
    assert read_listing(write(tmp_path / "paths.parquet", {"path": paths, "more": [1, 2]})) == expected
    listed = read_listing(
        write(tmp_path / "ids.parquet", {"path": ["features/b.npy", "s3://x/y.npy"], "video": ["1", "2"]})
    )
    assert listed == [ListedVideo("1", paths[0]), ListedVideo("2", "s3://x/y.npy")]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"path": ["x/a.npy", "y/a.npy"]}, "row 2: video 'a' is listed twice, as .*x/a.npy and .*y/a.npy"),
        ({"path": ["x.npy", "y.npy"], "video": ["1", "1"]}, "row 2: video '1' is listed twice"),
        ({"video": ["1"]}, "columns video, expected path"),
        ({"path": [1]}, "column path of type int64, expected one column of text"),
        ({"path": ["a.npy", None]}, "row 2: path 'None', expected"),
        ({"path": ["a\0.npy"]}, r"row 1: path .*, expected 1 to 4,096 characters"),
        ({"path": ["a.npy"], "video": [None]}, "column video of type null"),
        ({"path": ["a.npy", "b.npy"], "video": ["a", None]}, "row 2: video '', expected an id"),
    ],
)
def test_what_a_parquet_file_must_not_list_is_refused(columns: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=says):
        read_listing(write(tmp_path / "list.parquet", columns))


def test_what_is_no_listing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="not a usable Parquet file"):
        read_listing(tmp_path / "torn.parquet")
    with pytest.raises(DatasetError, match="No such file"):
        read_listing(tmp_path / "missing.parquet")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DatasetError, match="no videos, expected at least one"):
        read_listing(tmp_path / "empty.txt")
    with pytest.raises(FeatureError):
        read_listing(tmp_path)
