"""Which files a run has, and which of them a shard."""

from pathlib import Path

import pytest

from stale_runtime.batch import found_files
from stale_runtime.batch.found_files import find_files, find_shard
from stale_runtime.errors import FeatureError
from stale_runtime.inputs.shards import Listing, Shard

_NAMES = [f"{letter}{n}" for letter in "abc" for n in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in _NAMES:
        (tmp_path / f"v_{name}.npy").touch()
    return tmp_path


def test_shards_divide_the_files_of_a_run_and_know_all_of_them(folder: Path) -> None:
    shards = [find_shard([folder], Shard(index=index, count=5)) for index in range(5)]
    assert {path for paths, _ in shards for path in paths} == set(find_files([folder]))
    assert sum(len(paths) for paths, _ in shards) == len(_NAMES)
    assert {listing for _, listing in shards} == {Listing.of(_NAMES)}


def test_the_files_of_a_shard_are_counted_not_those_of_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_files, "MOST_FILES", 11)
    with pytest.raises(FeatureError, match=r"12 files, expected at most 11; .*--shard"):
        find_files([folder])
    with pytest.raises(FeatureError, match="12 files"):
        find_shard([folder], Shard(index=0, count=1))
    assert len(find_shard([folder], Shard(index=0, count=2))[0]) < 11


def test_two_files_of_one_video_are_refused_in_every_shard(folder: Path) -> None:
    (folder / "a0.npy").touch()
    for index in range(3):
        with pytest.raises(FeatureError, match="the same video id"):
            find_shard([folder], Shard(index=index, count=3))
