import re

import pytest

from stale_runtime.terminal import console
from stale_runtime.terminal.progress import Progress, duration
from tests.terminals import use_terminal


@pytest.fixture
def clock() -> list[float]:
    """Seconds in the one entry."""
    return [0.0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")]
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_terminal_has_one_line_that_changes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    shown = Progress("stale-bench")
    shown.show("launch 1", left_s=83.4)
    shown.show("launch 2", part=0.5)
    shown.show("launch 2", part=0.501)  # looks the same
    shown.end()
    shown.end()
    assert capsys.readouterr().err.split("\r") == [
        *("", "stale-bench: launch 1 about 1 min 23 s left\033[K"),
        *("stale-bench: launch 2 [##########----------]\033[K", "\033[K"),
    ]


def test_a_long_line_has_a_short_bar_and_too_long_a_one_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    shown = Progress("stale-export")
    shown.show("x" * 40, part=1, left_s=3)
    shown.show("x" * 200, part=1, left_s=3)
    _, short, none = capsys.readouterr().err.replace("\033[K", "").split("\r")
    assert short == f"stale-export: {'x' * 40} [#######] about 3 s left"
    assert none == f"stale-export: {'x' * 50} about 3 s left"
    shown.end()


def test_messages_and_results_take_the_place_of_the_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    shown = Progress("c")
    shown.show("at work")
    console.note("c", "warning: odd")
    shown.show("at work")
    console.echo("a result")
    assert capsys.readouterr() == (
        "a result\n",
        "\rc: at work\033[K\r\033[Kc: warning: odd\n\rc: at work\033[K\r\033[K",
    )


@pytest.mark.parametrize("kind", ["file", "dumb terminal"])
def test_elsewhere_there_is_a_line_a_minute_without_control_characters(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    if kind == "dumb terminal":
        use_terminal(monkeypatch, "dumb")
    shown = Progress("stale-bench", clock=lambda: clock[0])
    for clock[0] in (1.0, 60.0, 61.0, 119.0, 121.0):
        shown.show(f"at {clock[0]:.0f}", part=0.5, left_s=5.0)
    shown.show("another stage", at_once=True)
    shown.end()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        *("stale-bench: at 60, about 5 s left", "stale-bench: at 121, about 5 s left", "stale-bench: another stage")
    ]


def test_items_are_counted_and_the_rest_is_estimated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    use_terminal(monkeypatch)
    for _ in console.progress(
        "abc", label="reading", total=3, describe=lambda item: f"{item}!", clock=lambda: clock[0]
    ):
        clock[0] += 2
    lines = [re.sub(r" \[.*\]", "", line) for line in capsys.readouterr().err.replace("\033[K", "").split("\r")]
    assert lines == [
        *("", "stale-edge: reading: 0 of 3", "stale-edge: reading: 1 of 3, a! about 4 s left"),
        *("stale-edge: reading: 2 of 3, b! about 2 s left", "stale-edge: reading: 3 of 3, c! about 0 s left", ""),
    ]


def test_what_ends_early_leaves_no_line_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    items = console.progress("abc", label="reading", total=3)
    next(items)
    assert not capsys.readouterr().err.endswith("\r\033[K")
    items.close()
    assert capsys.readouterr().err == "\r\033[K"
