"""Exit codes: each is explained where users look."""

import re
from pathlib import Path

import click
import pytest

from stale_bench.bench_command import stale_bench
from stale_export.export_command import stale_export
from stale_model.train_command import stale_train
from stale_runtime import errors
from stale_runtime.commands.evaluate import stale_eval
from stale_runtime.commands.extract_features import stale_features
from stale_runtime.commands.run import stale_run
from stale_runtime.exit_codes import MEANINGS, MISSING_PACKAGE, describe_exit_codes

COMMANDS = (stale_run, stale_features, stale_eval, stale_export, stale_train, stale_bench)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_its_exit_codes(command: click.Command) -> None:
    assert command.epilog is not None
    assert command.epilog.startswith("Exit codes: 0 done; 1 the work could not be completed, or a bug")


def test_every_error_has_an_exit_code_that_is_explained() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.StaleError)]
    assert len(kinds) > 15
    assert {kind.exit_code for kind in kinds} <= set(MEANINGS)


def test_the_documentation_has_the_same_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "exit_codes.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == MEANINGS


def test_codes_are_described_in_order_and_once() -> None:
    described = describe_exit_codes(MISSING_PACKAGE, MISSING_PACKAGE)
    numbers = [int(part.split()[0]) for part in described.removeprefix("Exit codes: ").split("; ")]
    assert numbers == [0, 1, 2, 3, 6, 129, 130, 143]
