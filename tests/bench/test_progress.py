import pytest

from stale_bench.progress import Progress


def test_a_terminal_has_one_line_that_changes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = Progress("stale-bench")
    shown.say("launch 1", 83.4)
    shown.say("launch 2", None)
    shown.done()
    assert capsys.readouterr().err.split("\r") == [
        "", "\033[Kstale-bench: launch 1; about 1 min 23 s left", "\033[Kstale-bench: launch 2", "\033[K",
    ]  # fmt: skip


def test_elsewhere_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("stale_bench.progress.time.monotonic", lambda: clock[0])
    shown = Progress("stale-bench")
    for clock[0] in (1.0, 16.0, 17.0, 32.0):
        shown.say(f"at {clock[0]:.0f}", 5.0)
    shown.done()
    assert capsys.readouterr().err == "stale-bench: at 16; about 5 s left\nstale-bench: at 32; about 5 s left\n"
