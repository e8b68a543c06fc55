import csv
from dataclasses import replace

import pytest

from stale_model.data.splits import Split
from stale_model.training.epoch_metrics import Epoch
from stale_model.training.training_report import Reporter, TrainingResult, summary_csv, summary_table
from stale_runtime.terminal.progress import clear_line
from tests.terminals import use_terminal

RESULT = TrainingResult(
    seed=3,
    videos=160,
    trained_on="training",
    best_epoch=9,
    seen_map=0.734,
    unseen_map=0.415,
    epoch_s=4.26,
    peak_memory_mb=1234.5,
    gpu_percent=None,
)
EPOCH = Epoch(
    epoch=1,
    total=1.5,
    classification=1.0,
    masks=0.5,
    foreground=0.25,
    consistency=0.125,
    validation_map=0.5,
    seconds=2.0,
    peak_memory_mb=100.0,
    gpu_percent=None,
)


def test_class_names_whose_words_are_joined_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("train", 1, quiet=False)
    reporter.show_split(Split(name="mine", seen=("BaseballPitch", "Billiards"), unseen=("LongJump",)))
    assert capsys.readouterr().err == (
        "train: 2 of 3 class names run words together, such as 'BaseballPitch', and are prompts as they are; "
        "give stale-run the same names, without --split-names\n"
    )
    reporter.show_split(Split(name="mine", seen=("Baseball pitch", "iPhone"), unseen=("Ping-pong",)))
    assert capsys.readouterr().err == ""


def test_one_training_has_no_mean() -> None:
    table = summary_table([RESULT])
    assert "mean" not in table
    assert "73.40" in table
    assert "GPU" not in table


def test_several_end_with_mean_and_deviation() -> None:
    table = summary_table([RESULT, replace(RESULT, seed=4, seen_map=0.754, gpu_percent=50.0)])
    last = table.splitlines()[-1]
    assert last.lstrip().startswith("mean ± std")
    assert "74.4 ± 1.4" in last
    assert "GPU" in table


def test_what_was_not_measured_is_left_out() -> None:
    table = summary_table([replace(RESULT, seen_map=None, unseen_map=None)])
    assert "mAP" not in table


def test_the_csv_file_has_every_number() -> None:
    (row,) = csv.DictReader(summary_csv([RESULT]).decode().splitlines())
    assert (row["seed"], row["seen_map"], row["unseen_map"], row["gpu_percent"]) == ("3", "0.734", "0.415", "")


def test_the_table_of_epochs_has_one_head(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("stale-train", 3, quiet=False)
    for number in (1, 2, 3):
        reporter.show_epoch(replace(EPOCH, epoch=number))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "GPU" not in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["1", "2", "3"]
    assert "50.00" in lines[2]


def test_gpu_columns_are_there_with_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter("stale-train", 1, quiet=False).show_epoch(replace(EPOCH, gpu_percent=88.0))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("GPU %")
    assert lines[2].split()[-1] == "88"


def test_a_terminal_sees_the_loss_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    clock = [100.0]
    reporter = Reporter("stale-train", 2, quiet=False, clock=lambda: clock[0])
    clock[0] = 200.0  # reading features does not count
    reporter.show_start(1)
    clock[0] = 210.0
    reporter.show_step(1, 4, 0.5)
    clear_line()
    shown = capsys.readouterr().err.split("\r")
    assert shown[1] == "stale-train: epoch 2/2 [##########----------]\033[K"
    assert shown[2] == "stale-train: epoch 2/2, step 1/4, loss 0.5000 [#########------] about 30 s left\033[K"


def test_a_log_file_has_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    reporter = Reporter("stale-train", 2, quiet=False, clock=lambda: clock[0])
    reporter.show_start(0)
    for step in range(1, 5):
        clock[0] += 25.0
        reporter.show_step(step, 4, 1 / step)
    assert capsys.readouterr().err == "stale-train: epoch 1/2, step 3/4, loss 0.3333, about 2 min 5 s left\n"


def test_a_terminal_that_is_gone_does_not_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    use_terminal(monkeypatch)
    monkeypatch.setattr("click.echo", fail)
    Reporter("stale-train", 2, quiet=False).show_step(1, 4, 0.5)
    clear_line()
