"""The commands of ``make demo``: each one is understood, and reads only what one before it writes."""

import shlex
import subprocess
from pathlib import Path

import click
import pytest

from stale_export.export_command import stale_export
from stale_model.demo.demo_command import demo
from stale_model.demo.demo_summary import demo_summary
from stale_model.train_command import stale_train
from stale_runtime.commands.evaluate import stale_eval
from stale_runtime.commands.extract_features import stale_features
from stale_runtime.commands.run import stale_run
from tests.cli.command import outside_make

ROOT = Path(__file__).parents[2]
COMMANDS: dict[str, click.Command] = {
    "python -m stale_model.demo": demo,
    "stale-features": stale_features,
    "stale-train": stale_train,
    "stale-export": stale_export,
    "stale-run": stale_run,
    "stale-eval": stale_eval,
    "python -m stale_model.demo.demo_summary": demo_summary,
}
WRITTEN_BY_DEMO = ("videos", "annotations.json", "splits", "clip", "vision")


@pytest.fixture(scope="module")
def lines() -> list[list[str]]:
    """The words of each command, as ``make`` would run it in a virtual environment that is ready."""
    make = ["make", "--dry-run", "--old-file", "env/installed", "demo", "VENV=env", "DEMO=data", "SEED=5"]
    shown = subprocess.run(make, cwd=ROOT, env=outside_make(), capture_output=True, text=True, check=True).stdout
    return [shlex.split(line) for line in shown.replace("\\\n", " ").splitlines()]


def split_command(words: list[str]) -> tuple[str, list[str]]:
    assert words[0].startswith("env/bin/")
    count = 3 if words[1] == "-m" else 1
    return " ".join([words[0].removeprefix("env/bin/"), *words[1:count]]), words[count:]


def test_each_command_is_understood_and_they_come_in_this_order(lines: list[list[str]]) -> None:
    assert lines[0] == ["rm", "-rf", "data"]
    names = []
    for words in lines[1:]:
        name, arguments = split_command(words)
        COMMANDS[name].make_context(name, arguments)  # raises for options that the command does not have
        names.append(name)
    assert list(dict.fromkeys(names)) == list(COMMANDS)


def test_each_command_reads_only_what_is_there_by_then(lines: list[list[str]]) -> None:
    there = set(WRITTEN_BY_DEMO)
    for words in lines[2:]:
        written = {Path(words[n + 1]).parts[1] for n, word in enumerate(words) if word == "-o"}
        read = {Path(word).parts[1] for word in words if word.startswith("data/")} - written
        assert read <= there, words
        there |= written
    assert "detections.json" in there, "what the summary reads"


def test_the_seed_is_that_of_the_drawings_and_of_the_network(lines: list[list[str]]) -> None:
    seeded = [
        split_command(words)[0] for words in lines if "--seed" in words and words[words.index("--seed") + 1] == "5"
    ]
    assert seeded == ["python -m stale_model.demo", "stale-train"]
