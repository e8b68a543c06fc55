import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stale_runtime.errors import OutputError
from stale_runtime.system.files import write_whole
from stale_runtime.system.workspace import sweep, workspace

WRITES_A_HUNDRED_FILES = """
import sys
from pathlib import Path
from stale_runtime.system.files import write_whole
for n in range(100):
    write_whole(Path(sys.argv[1]) / f"{n % 10}", bytes(1000))
"""
HOLDS_ONE = """
import sys
from pathlib import Path
from stale_runtime.system.workspace import workspace
with workspace(Path(sys.argv[1])) as space:
    (space / "part").write_bytes(b"half")
    print(space.name, flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def start_holder(folder: Path) -> "subprocess.Popen[str]":
    """A process that holds a workspace in a folder until it is told to end, or killed."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDS_ONE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_it_is_there_as_long_as_the_block_runs(tmp_path: Path) -> None:
    with workspace(tmp_path) as space:
        (space / "inner").mkdir()
        (space / "inner" / "file").write_bytes(b"data")
        assert names(tmp_path) == [space.name]
    assert names(tmp_path) == []


def test_an_error_removes_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), workspace(tmp_path):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_without_a_folder_it_is_in_the_systems_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with workspace() as space:
        assert space.parent == tmp_path


def test_that_of_a_killed_run_goes_and_that_of_a_live_one_stays(tmp_path: Path) -> None:
    with start_holder(tmp_path) as live, start_holder(tmp_path) as killed:
        assert live.stdout is not None
        assert killed.stdout is not None
        lives, dies = live.stdout.readline().strip(), killed.stdout.readline().strip()
        assert names(tmp_path) == sorted([lives, dies])
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        write_whole(tmp_path / "result", b"data")
        assert names(tmp_path) == sorted([lives, "result"])
        live.communicate("")
        assert names(tmp_path) == ["result"]


def test_nothing_else_is_swept(tmp_path: Path) -> None:
    others = [".stale-abcdefgh", ".stale-abc.part", "stale-abcdefgh.part", ".stale-ABCDEFGH.part", "x.part"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / ".stale-aaaaaaaa.part").write_bytes(b"a file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".stale-bbbbbbbb.part").symlink_to("elsewhere")
    before = names(tmp_path)
    sweep(tmp_path)
    assert names(tmp_path) == before


def test_sweeping_where_nothing_may_be_read_is_survived(tmp_path: Path) -> None:
    sweep(tmp_path / "absent")
    (tmp_path / "file").write_bytes(b"")
    sweep(tmp_path / "file")


def test_without_locks_on_folders_it_works_and_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")

    (tmp_path / ".stale-aaaaaaaa.part").mkdir()
    monkeypatch.setattr(fcntl, "flock", refuse)
    write_whole(tmp_path / "result", b"data")
    assert names(tmp_path) == [".stale-aaaaaaaa.part", "result"]


def test_one_that_is_swept_before_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, made = tempfile.mkdtemp, []

    def make_and_lose(**options: str) -> str:
        made.append(make(**options))
        if len(made) < 3:
            sweep(tmp_path)
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    with workspace(tmp_path) as space:
        assert [str(space)] == made[2:]
        assert names(tmp_path) == [space.name]


def test_several_processes_write_into_one_folder_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITES_A_HUNDRED_FILES, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    ends = [process.communicate(timeout=120)[1] for process in processes]
    assert ends == [b""] * 4
    assert names(tmp_path) == [str(n) for n in range(10)]


def plant(folder: Path) -> Path:
    """What looks like the workspace of a killed run in ``shared``, and leads to ``victim``'s files."""
    (folder / "victim").mkdir()
    (folder / "victim" / "secret").write_text("secret")
    planted = folder / "shared" / ".stale-abcdefgh.part"
    planted.mkdir(parents=True)
    (planted / "set-aside").symlink_to(folder / "victim")
    return planted


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to make another account's folder")
def test_that_of_another_account_is_left_alone(tmp_path: Path) -> None:
    """Whoever may write to a folder could put anything there under such a name."""
    planted = plant(tmp_path)
    os.chown(planted, 65534, 65534)
    sweep(tmp_path / "shared")
    assert (planted / "set-aside").is_symlink()
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["secret"]
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [planted.name]


def test_a_link_in_the_place_of_what_was_set_aside_is_not_followed(tmp_path: Path) -> None:
    plant(tmp_path)
    sweep(tmp_path / "shared")
    assert list((tmp_path / "shared").iterdir()) == []
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["secret"]


def test_without_a_temporary_folder_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(OutputError, match="name one in TMPDIR"), workspace():
        pass
