"""Running the blocks of a page, as somebody would who reads it from top to bottom."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stdout
from io import StringIO
from itertools import groupby
from pathlib import Path

import click
import pytest

from docs.site.command_pages import COMMANDS, find_command
from tests.cli import same_process
from tests.cli.command import outside_make
from tests.docs.blocks import ROOT, Block

BIN = Path(sys.executable).parent
OPERATOR = re.compile(r"[|&;<>()]+")
MUST_BE_MARKED = {"pip", "torchrun", "python", "python3", "cd", "."}
"""Commands that install something, take long, or change the shell that the next command would run in."""


def run_block(block: Block, folder: Path) -> None:
    """Run a block, and check how each of its commands ends. Commands of a block that is not to be run are parsed."""
    if block.language == "python" and block.not_run is None:
        run_python(block, folder)
    if block.language in ("sh", "console"):
        for number, command in enumerate(block.commands, 1):
            if block.not_run is not None:
                parse_command(block, command)
                continue
            code, said = run_command(block, command, folder)
            expected = block.exit_code if number == len(block.commands) else 0
            assert code == expected, f"{block}: {command}\nends with {code}, expected {expected}:\n{said}"


def run_python(block: Block, folder: Path) -> None:
    """Run a block of Python in this process."""
    code = compile(block.code, str(block), "exec")
    with chdir(folder), redirect_stdout(StringIO()):
        exec(code, {"__name__": "__main__"})


def run_command(block: Block, command: str, folder: Path) -> tuple[int, str]:
    """Run a command: ours in this process, all others in a shell.

    Returns:
        Its exit code and what it wrote to stderr.
    """
    words = shell_words(command)
    assert words[0] not in MUST_BE_MARKED, f"{block}: {words[0]}: put <!-- not run: REASON --> before this block"
    if words[0] == "make":  # what it would do, which shows that there is such a target
        command, folder = f"make --dry-run {shlex.join(words[1:])}", ROOT
    elif words[0] == "stale-bench" and "--render" not in words:
        command += " --budget 1"
    elif words[0] in same_process.COMMANDS and not any(OPERATOR.fullmatch(word) for word in words):
        expanded = in_shell(f"printf '%s\\0' {command}", folder).stdout.split("\0")[1:-1]
        done = same_process.run(words[0], *expanded, cwd=folder)
        return done.returncode, done.stderr
    elif words[0] not in COMMANDS and shutil.which(words[0]) is None:
        pytest.skip(f"{block}: no {words[0]} here")
    shown = in_shell(command, folder)
    return shown.returncode, shown.stderr


def in_shell(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command in a shell that finds ours."""
    environment = outside_make()
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**environment, "PATH": f"{BIN}{os.pathsep}{environment['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def shell_words(command: str) -> list[str]:
    """The words of a command; operators of the shell are words, too."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def parse_command(block: Block, line: str) -> None:
    """Check that our commands in a line have the options that they are given."""
    for is_operator, group in groupby(shell_words(line), lambda word: OPERATOR.fullmatch(word) is not None):
        name, *arguments = group
        if is_operator or name not in COMMANDS or "..." in arguments:
            continue
        command = find_command(name)
        if isinstance(command, click.Group) and arguments[:1] and arguments[0] in command.commands:
            command = command.commands[arguments.pop(0)]
        try:
            command.make_context(name, arguments)
        except click.ClickException as error:
            pytest.fail(f"{block}: {line}\n{error.format_message()}")
