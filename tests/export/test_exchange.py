import ctypes
from pathlib import Path

import pytest

from stale_export.exchange import exchange


def test_two_folders_take_each_others_name(tmp_path: Path) -> None:
    for name in ("a", "跳"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"")
    if not exchange(tmp_path / "a", tmp_path / "跳"):
        pytest.skip("this file system exchanges no names")
    assert {path.name: [entry.name for entry in path.iterdir()] for path in tmp_path.iterdir()} == {
        "a": ["跳"],
        "跳": ["a"],
    }


def test_nothing_changes_where_it_cannot_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    assert not exchange(tmp_path / "a", tmp_path / "absent")
    assert not exchange(tmp_path / "absent", tmp_path / "a")
    (tmp_path / "b").mkdir()
    inode = (tmp_path / "a").stat().st_ino
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").stat().st_ino == inode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
