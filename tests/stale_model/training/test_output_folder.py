"""One training a folder."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from stale_model.training.output_folder import check_folder, lock_folder
from stale_model.training.training_files import LAST
from stale_runtime.errors import OutputError


def test_a_folder_is_locked_only_while_it_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    with lock_folder(folder):
        assert folder.is_dir()
        with pytest.raises(OutputError, match="another stale-train is using it"), lock_folder(folder):
            pass
    with lock_folder(folder):
        pass


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with lock_folder(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"-o {tmp_path}/file: File exists"), lock_folder(tmp_path / "file"):
        pass


def test_a_training_is_not_overwritten(tmp_path: Path) -> None:
    check_folder(tmp_path, resume=False)
    (tmp_path / LAST).touch()
    check_folder(tmp_path, resume=True)
    with pytest.raises(OutputError, match="contains a training already; give --resume"):
        check_folder(tmp_path, resume=False)
    assert os.listdir(tmp_path) == [LAST]
