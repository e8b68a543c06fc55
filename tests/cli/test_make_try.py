"""The commands of ``make try`` and ``make example``: each one is understood, and reads only files that are there."""

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import outside_make
from tests.cli.same_process import run
from tests.cli.test_make_demo import COMMANDS, split_command

ROOT = Path(__file__).parents[2]


def shown_by_make(*arguments: str) -> list[str]:
    """The commands that ``make`` would run."""
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=ROOT, env=outside_make(), capture_output=True, text=True, check=True
    )
    return done.stdout.replace("\\\n", " ").splitlines()


@pytest.fixture(scope="module")
def commands() -> list[list[str]]:
    """The arguments of each ``stale-run`` of ``make try``."""
    lines = shown_by_make("--old-file", "env/installed", "try", "TRY=env")
    return [split_command(shlex.split(line))[1] for line in lines if line.startswith("env/bin/stale-run ")]


def test_a_table_beside_the_truth_comes_first_and_then_pages(commands: list[list[str]]) -> None:
    table, pages = commands
    done = run("stale-run", *table, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[-5:] == ["marked", "start", "marked", "end", "tIoU"]
    assert "4 of 4 marked actions were found with a tIoU of 0.5 or more." in lines
    assert pages == [*table, "--format", "html", "-o", "env/pages/"]
    COMMANDS["stale-run"].make_context("stale-run", list(pages))


def test_the_runtime_alone_is_installed() -> None:
    (install,) = [line for line in shown_by_make("try", "TRY=env") if "pip install" in line]
    assert shlex.split(install)[-4:] == ["--constraint", "constraints.txt", "--editable", ".[video]"]


def test_no_browser_is_opened_where_nobody_looks(tmp_path: Path) -> None:
    lines = shown_by_make("--old-file", "env/installed", "try", "TRY=env")
    (opening,) = [line for line in lines if "webbrowser" in line]
    (tmp_path / "env" / "bin").mkdir(parents=True)
    opener = tmp_path / "env" / "bin" / "python"
    opener.write_text("#!/bin/sh\ntouch opened\nsleep 60\n")
    opener.chmod(0o755)
    nowhere = {name: value for name, value in outside_make().items() if name not in {"CI", "DISPLAY"}}
    for variables in ({}, {"DISPLAY": ":0"}, {"DISPLAY": ":0", "CI": "true"}):
        environment = nowhere | variables
        done = subprocess.run(["sh", "-ec", opening], cwd=tmp_path, env=environment, capture_output=True, timeout=30)
        assert (done.returncode, done.stdout) == (0, b"")
    assert not (tmp_path / "opened").exists(), "stdout is no terminal"


def test_the_examples_are_made_from_the_demo_of_seed_0() -> None:
    lines = [shlex.split(line) for line in shown_by_make("--old-file", "env/installed", "example", "VENV=env")]
    calls = [split_command(words) for words in lines if words[0].startswith("env/bin/")]
    assert calls[0][1][-2:] == ["--seed", "0"]
    (_, _), (export, options), (drawn, folder), (found, _) = calls[-4:]
    assert (export, drawn, found) == ("stale-export", "python -m stale_model.demo.example_videos", "stale-run")
    COMMANDS[export].make_context(export, list(options))
    assert options[options.index("--graphs") + 1 :][:2] == ["ort-int8", "vision-int8"]
    assert folder == ["examples"]
