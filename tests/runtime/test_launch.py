"""Commands whose libraries cannot be loaded."""

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
