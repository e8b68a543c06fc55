import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from stale_runtime.errors import (
    FeatureError,
    MissingPackageError,
    OutputError,
    RecipeError,
    RemoteFileError,
    StaleError,
)
from stale_runtime.inputs import remote_copies, remote_storage
from stale_runtime.inputs.remote_copies import Copy, fetched, fetched_together, list_folder, look_up, parts_to_fetch
from stale_runtime.inputs.remote_files import RemoteFile, RemoteState, Source
from tests.storage.other_storages import other_storages

FOLDER = RemoteFile("memory://bucket/feats")
FILE = RemoteFile("memory://bucket/feats/a.npy")


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryFileSystem:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    system = MemoryFileSystem()
    system.store.clear()
    system.pipe(
        {"/bucket/feats/a.npy": b"features", "/bucket/feats/a.recipe.json": b"{}", "/bucket/feats/b.mp4": b"video"}
    )
    return system


def test_a_local_file_is_its_own_copy(tmp_path: Path) -> None:
    with fetched(tmp_path / "a.npy") as path:
        assert path == tmp_path / "a.npy"


@pytest.mark.parametrize("listed", [False, True])
def test_a_copy_has_the_recipe_beside_it_and_is_removed(listed: bool, tmp_path: Path) -> None:
    source = list_folder(FOLDER)[0][0] if listed else FILE
    with fetched(source) as path:
        assert path.read_bytes() == b"features"
        assert sorted(os.listdir(path.parent)) == ["a.npy", "a.recipe.json"]
        assert tmp_path in path.parents
    assert os.listdir(tmp_path) == []


def test_a_folder_lists_what_is_known_of_its_files(memory: MemoryFileSystem) -> None:
    memory.pipe({"/bucket/feats/.hidden.npy": b"", "/bucket/feats/in/c.npy": b"", "/bucket/feats/odd?.npy": b""})
    files, folders = list_folder(FOLDER)
    assert [file.name for file in files] == ["a.npy", "a.recipe.json", "b.mp4"]
    assert folders == ["memory://bucket/feats/in"]
    assert files[0] == look_up(FILE)
    assert files[0].recipe is not None
    assert files[2].recipe is None


def test_errors_name_the_url_and_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(FeatureError) as failed, fetched(FILE) as path:
        raise FeatureError(f"{path}: broken, as {path.parent / 'a.recipe.json'} says")
    assert str(failed.value) == f"{FILE}: broken, as memory://bucket/feats/a.recipe.json says"
    assert os.listdir(tmp_path) == []


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), fetched(FILE):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_of_several_files_a_missing_one_costs_only_itself() -> None:
    files = [replace(FILE, url=f"memory://bucket/feats/{name}") for name in ("a.npy", "missing.npy", "b.mp4")]
    with fetched_together(files) as copies:
        found = [copies[file] for file in files]
        assert [copy.path.read_bytes() if isinstance(copy, Copy) else None for copy in found] == [
            b"features",
            None,
            b"video",
        ]
        assert isinstance(found[1], RemoteFileError)
        assert str(found[1]).startswith("memory://bucket/feats/missing.npy: there is no such file")


def test_files_are_fetched_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = threading.Barrier(2, timeout=20)
    monkeypatch.setattr(remote_storage.RemoteStorage, "download", lambda *_: meeting.wait())
    files = [replace(FILE, state=RemoteState(1, "1")), RemoteFile("memory://bucket/feats/b.mp4", RemoteState(1, "1"))]
    with fetched_together(files) as copies:
        assert all(isinstance(copy, Copy) for copy in copies.values())


def test_a_file_that_was_replaced_by_a_larger_one_is_refused(memory: MemoryFileSystem) -> None:
    source = look_up(FILE)
    memory.pipe({"/bucket/feats/a.npy": b"other features"})
    with pytest.raises(RemoteFileError, match="more bytes, expected 8 as the storage had said"), fetched(source):
        pass


@pytest.mark.parametrize(
    ("constant", "value", "error", "says"),
    [
        ("LARGEST_REMOTE", 7, RemoteFileError, r"a\.npy: 8 bytes, expected at most 7"),
        ("LARGEST_RECIPE", 1, RecipeError, r"memory://bucket/feats/a\.recipe\.json: 2 bytes, expected at most 1"),
    ],
)
def test_what_is_too_large_is_not_fetched(
    constant: str, value: int, error: type[StaleError], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_copies, constant, value)
    with pytest.raises(error, match=says), fetched(FILE):
        pass


def test_a_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = remote_copies.SPARE_DISK + 7
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(OutputError, match=rf"8 bytes, but only {free:,} are free in {tmp_path}.*TMPDIR"), fetched(FILE):
        pass


def test_copies_that_are_there_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_copies, "MOST_COPIED", 10)
    sizes = (4, 4, 4, 11, 1, *[0] * 8)
    files: list[Source] = [RemoteFile(f"s3://b/{n}.npy", RemoteState(size, "1")) for n, size in enumerate(sizes)]
    parts = list(parts_to_fetch(files))
    assert [file for part in parts for file in part] == files
    assert [len(part) for part in parts] == [2, 1, 1, 8, 1]


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    remote_storage._open.cache_clear()
    there: Mapping[str, object] = {"fsspec": object()}
    monkeypatch.setattr(remote_storage, "find_spec", there.get)
    with pytest.raises(MissingPackageError, match=r"gs:// needs gcsfs, which is not installed.*\[remote\]"):
        list_folder(RemoteFile("gs://bucket"))


@pytest.mark.parametrize("folder", ["gs://bucket/feats", "hf://datasets/user/name/feats"])
def test_other_storages_are_read_with_one_request_a_file(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = {"feats/a.npy": b"features", "feats/a.recipe.json": b"{}"}
    monkeypatch.setattr(remote_storage, "_open", cache(remote_storage._open.__wrapped__))
    with other_storages(objects) as (address, requests):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
        monkeypatch.setattr(
            "fsspec.config.conf", {"gs": {"token": "anon"}, "hf": {"endpoint": address, "token": False}}
        )
        (file, _), _ = list_folder(RemoteFile(folder))
        assert file.known_state == RemoteState(8, "17, recipe 2 17")
        listed = len(requests)
        with fetched(file) as path:
            assert path.read_bytes() == b"features"
            assert sorted(os.listdir(path.parent)) == ["a.npy", "a.recipe.json"]
    assert len(requests) == listed + 2
