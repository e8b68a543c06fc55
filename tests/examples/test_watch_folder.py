"""``examples/watch.py`` does each file of a folder once, when it is complete."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_runtime import EncodedPrompts, Localizer
from tests.examples.example import VIDEO, load, start


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "incoming", tmp_path / "found"
    for folder in folders:
        folder.mkdir()
    return folders


@pytest.fixture
def features(localizer: Localizer) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(30, localizer.bundle.manifest.channels)).astype(np.float32)


@pytest.fixture
def open_watcher(folders: tuple[Path, Path], localizer: Localizer, prompts: EncodedPrompts) -> Callable[..., Any]:
    """Makes a new watcher, as after a restart; for other classes if some are given."""
    incoming, found = folders
    watch = load("watch")

    def open_watcher(prompts: EncodedPrompts = prompts) -> Any:
        return watch.Watcher(folder=incoming, output=found, localizer=localizer, prompts=prompts)

    return open_watcher


def look(watcher: Any, capsys: pytest.CaptureFixture[str]) -> str:
    watcher.look()
    return capsys.readouterr().out


def test_a_file_is_done_when_it_has_stopped_growing_and_once(
    folders: tuple[Path, Path],
    open_watcher: Callable[..., Any],
    features: np.ndarray[Any, np.dtype[np.float32]],
    localizer: Localizer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    incoming, found = folders
    watcher = open_watcher()
    np.save(incoming / "whole.npy", features)
    whole = (incoming / "whole.npy").read_bytes()
    os.remove(incoming / "whole.npy")
    for ready in (0.3, 0.6, 1):
        (incoming / "a.npy").write_bytes(whole[: int(ready * len(whole))])
        assert look(watcher, capsys) == ""
    assert look(watcher, capsys).startswith("a.npy: ")
    assert look(watcher, capsys) == ""
    assert json.loads((found / "a.npy.json").read_text())["video"] == "a"
    assert (found / "a.npy.html").read_text().startswith("<!doctype html>")

    again = open_watcher()
    assert [look(again, capsys) for _ in range(2)] == ["", ""]
    other = open_watcher(localizer.encode_prompts(["x"]))
    assert [look(other, capsys)[:6] for _ in range(2)] == ["", "a.npy:"]


def test_a_name_that_is_too_long_or_in_capitals_does_not_end_it(
    folders: tuple[Path, Path],
    features: np.ndarray[Any, np.dtype[np.float32]],
    localizer: Localizer,
    prompts: EncodedPrompts,
    capsys: pytest.CaptureFixture[str],
) -> None:
    incoming, found = folders
    watcher = load("watch").Watcher(folder=incoming, output=found, localizer=localizer, prompts=prompts)
    for name in ("n" * 251 + ".npy", "z.NPY"):
        with open(incoming / name, "wb") as file:
            np.save(file, features)
    look(watcher, capsys)
    long, other = look(watcher, capsys).splitlines()
    assert long.endswith("a name too long to add .html to; rename the file")
    assert other.startswith("z.NPY: ")


def test_a_bad_file_is_reported_once_until_it_changes(
    folders: tuple[Path, Path],
    open_watcher: Callable[..., Any],
    features: np.ndarray[Any, np.dtype[np.float32]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    incoming, found = folders
    (incoming / "a.npy").write_text("no array")
    (incoming / "notes.txt").write_text("no video")
    (incoming / ".b.npy").write_text("still hidden")
    (incoming / "c.npy").mkdir()
    for is_new in (True, False):
        watcher = open_watcher()
        assert look(watcher, capsys) == ""
        assert ("a.npy: not a .npy file" in (said := look(watcher, capsys))) == is_new == (said != "")
        assert look(watcher, capsys) == ""
    np.save(incoming / "a.npy", features)
    assert [look(watcher, capsys)[:6] for _ in range(2)] == ["", "a.npy:"]
    (incoming / "a.npy").write_text("no array again")
    assert [bool(look(watcher, capsys)) for _ in range(2)] == [False, True]
    assert [path.name for path in found.iterdir()] == ["watched.json"]
    (found / "watched.json").write_text('{"run"')
    assert open_watcher().done == {}


def test_a_file_that_is_removed_meanwhile_is_passed_over(
    folders: tuple[Path, Path], open_watcher: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders[0] / "a.npy").symlink_to("removed")
    monkeypatch.setattr(Path, "is_file", lambda _: True)  # it was there a moment ago
    open_watcher().look()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_as_a_user_starts_and_ends_it(folders: tuple[Path, Path], number: signal.Signals) -> None:
    incoming, found = folders
    shutil.copy(VIDEO, incoming / "new: 1.mp4")
    with start("watch", incoming, found, "--every", "0.1", folder=incoming.parent) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"watching {incoming}; Ctrl-C ends\n"
        assert process.stdout.readline() == f"new: 1.mp4: 2 actions, see {found / 'new: 1.mp4.html'}\n"
        process.send_signal(number)
        assert process.stdout.read() == "stopped; what is finished is kept\n"
    assert process.returncode == 0
    assert {path.name for path in found.iterdir()} == {"new: 1.mp4.json", "new: 1.mp4.html", "watched.json"}
    assert '"../incoming/new%3A%201.mp4"' in (found / "new: 1.mp4.html").read_text()
