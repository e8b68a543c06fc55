import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stale_runtime.bundle.held_folder import HeldFolder
from tests.runtime.helpers import make_fifo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(bytes(range(256)) * 40)
    return tmp_path / "folder"


def test_a_file_is_read_as_it_was_opened_wherever_it_is_now(folder: Path) -> None:
    held = HeldFolder(folder)
    assert held.names() == {"a"}
    assert held.hold("a") == 256 * 40
    data = (folder / "a").read_bytes()
    (folder / "a").unlink()
    (folder / "a").write_bytes(b"another")
    assert held.read("a", len(data)) == data
    assert held.read("a", 2 * len(data)) == data
    assert held.read("a", 3) == data[:3]
    assert held.read("a", 0) == b""
    assert [len(piece) for piece in held.pieces("a", len(data), piece=10_000)] == [10_000, 240]


def test_threads_read_at_the_same_time(folder: Path) -> None:
    held = HeldFolder(folder)
    held.hold("a")
    data = (folder / "a").read_bytes()
    with ThreadPoolExecutor(8) as pool:
        read = pool.map(lambda _: b"".join(held.pieces("a", len(data), piece=7)), range(16))
    assert all(content == data for content in read)


def test_only_plain_files_are_held(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "a")
    (folder / "inner").mkdir()
    make_fifo(folder / "pipe")
    held = HeldFolder(folder)
    assert [held.hold(name) for name in ("link", "inner", "pipe")] == [None, None, None]
    with pytest.raises(OSError, match="not open"):
        held.read("link", 1)
    with pytest.raises(FileNotFoundError):
        held.hold("b")
    with pytest.raises(NotADirectoryError):
        HeldFolder(folder / "a")


def test_it_knows_whether_its_path_leads_elsewhere(folder: Path, tmp_path: Path) -> None:
    held = HeldFolder(folder)
    assert not held.was_replaced()
    os.rename(folder, tmp_path / "old")
    assert held.was_replaced()
    folder.mkdir()
    assert held.was_replaced()
