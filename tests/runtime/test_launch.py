"""Commands whose libraries cannot be loaded."""

import gc
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from stale_runtime import launch

LOADING = {
    "bad_alloc": "raise ImportError('Exception caught: std::bad_alloc')",
    "mapping": "raise ImportError('x.so: failed to map segment from shared object')",
    "cause": "try:\n    raise MemoryError\nexcept MemoryError as e:\n    raise RuntimeError('cannot start') from e",
    "null": "raise SystemError('_find_and_load returned NULL without setting an exception')",
}


@pytest.fixture
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that cannot be loaded."""
    name = f"unloadable_{request.param}"
    (tmp_path / f"{name}.py").write_text(LOADING[request.param])
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize("broken", list(LOADING), indirect=True)
def test_a_lack_of_memory_takes_one_line(
    broken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "_address_space_limit", lambda: 200_000_000)
    with pytest.raises(SystemExit, match="3"):
        launch.launch(broken, "stale-run")
    assert capsys.readouterr().err == (
        "stale-run: error: not enough memory: ulimit -v allows 200 MB; raise it, or use smaller inputs\n"
    )


@pytest.mark.parametrize("broken", ["mapping", "null"], indirect=True)
def test_without_a_limit_other_causes_are_shown(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without permission to execute, for instance, gives the same text."""
    monkeypatch.setattr(launch, "_address_space_limit", lambda: None)
    with pytest.raises((ImportError, SystemError)):
        launch.launch(broken, "stale-run")


def test_what_numpy_cannot_survive_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "_address_space_limit", lambda: 100_000_000)
    with pytest.raises(SystemExit, match="3"):
        launch.launch("stale_runtime.commands.evaluate", "stale-eval")
    assert "(to load numpy): ulimit -v allows 100 MB; raise it" in capsys.readouterr().err


ENDING = """
import atexit, sys, threading
from stale_runtime import launch
{before}
sys.modules["command"] = type(sys)("command")
sys.modules["command"].main = lambda: (print("printed"), print("told", file=sys.stderr), sys.exit({code!r}))
atexit.register(lambda: print("registered"))
launch._launch_and_end("command", "stale-run")
"""


def ended(code: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """A process whose command ends with this exit code."""
    script = ENDING.format(code=code, before=before)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)


def test_a_command_ends_at_once_and_loses_nothing() -> None:
    """Objects are not freed one by one, but what was printed and registered is not forgotten."""
    unfreed = "class Loud:\n    def __del__(self): print('freed')\nkept = Loud()"
    done = ended(5, unfreed)
    assert (done.returncode, done.stdout, done.stderr) == (5, "printed\nregistered\n", "told\n")


def test_a_command_waits_for_threads_that_still_work() -> None:
    done = ended(0, "threading.Thread(target=lambda: (threading.main_thread().join(), print('worked'))).start()")
    assert (done.returncode, done.stdout) == (0, "printed\nworked\nregistered\n")


def test_modules_are_exempt_from_garbage_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "collected.py").write_text("import gc\nwhile_loading = gc.isenabled()\ndef main(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = gc.get_freeze_count()
    try:
        launch.launch("collected", "stale-run")
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
        assert not import_module("collected").while_loading
    finally:
        gc.unfreeze()
