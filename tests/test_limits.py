"""The documented limits are those of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

TABLE = (Path(__file__).parents[1] / "docs" / "limits.md").read_text()
ROWS = re.findall(r"^\|.*\| ([\d,]+) \| `([\w.]+)\.(\w+)` \|$", TABLE, re.MULTILINE)


def test_the_table_is_read() -> None:
    assert len(ROWS) == TABLE.count("| `stale_")
    assert len(ROWS) >= 15


@pytest.mark.parametrize(("number", "module", "name"), ROWS)
def test_a_documented_ceiling_is_the_code_s(number: str, module: str, name: str) -> None:
    assert int(number.replace(",", "")) == getattr(import_module(module), name)
