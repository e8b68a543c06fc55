import pytest

from stale_export.stages import Stages
from stale_runtime.terminal.progress import Progress
from tests.terminals import use_terminal


def make_stages(clock: list[float]) -> Stages:
    return Stages(4, Progress("stale-export", clock=lambda: clock[0]).show, clock=lambda: clock[0])


def work(stages: Stages, clock: list[float]) -> None:
    """Two stages, the second with three videos of 25 seconds each."""
    stages.enter("reading the checkpoint")
    stages.enter("quantizing the localizer")
    for _ in stages.watch("abc", "video"):
        clock[0] += 25


def test_a_log_file_has_a_line_a_stage_and_one_a_minute_in_a_long_one(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    work(make_stages(clock), clock)
    assert capsys.readouterr().err.splitlines() == [
        "stale-export: reading the checkpoint",
        "stale-export: quantizing the localizer",
        "stale-export: quantizing the localizer: video 3 of 3",
    ]


def test_a_terminal_has_one_bar_over_all_stages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    clock = [0.0]
    stages = make_stages(clock)
    work(stages, clock)
    lines = capsys.readouterr().err.replace("\033[K", "").split("\r")[1:]
    assert [line.partition(" [")[0] for line in lines] == [
        "stale-export: reading the checkpoint",
        "stale-export: quantizing the localizer",
        "stale-export: quantizing the localizer: video 1 of 3, 50 s left",
        "stale-export: quantizing the localizer: video 2 of 3, 25 s left",
        "stale-export: quantizing the localizer: video 3 of 3",
    ]
    assert lines[0].endswith("[--------------------]")
    assert lines[1].endswith("[#####---------------]")
    assert lines[-1].endswith("[##########----------]")


def test_without_a_command_the_names_of_the_stages_are_said() -> None:
    said: list[str] = []
    work(Stages.said_by(said.append), [0.0])
    assert said == ["reading the checkpoint", "quantizing the localizer"]
