"""The files and tests that the documentation names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
TEXTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", *DOCS)
NAMED = re.compile(r"[`(]((?:tests|docs|runtime|export|bench|stale_model)/[\w/.]*\w)")
PATHS = sorted({(text, path) for text in TEXTS for path in NAMED.findall((ROOT / text).read_text())})
ROWS = [line for line in (ROOT / "docs/threats.md").read_text().splitlines() if line.startswith("| ")]


@pytest.mark.parametrize(("text", "path"), PATHS)
def test_a_file_that_is_named_exists(text: str, path: str) -> None:
    assert (ROOT / path).exists(), f"{text} names {path}"


@pytest.mark.parametrize("row", [row for row in ROWS if "`" in row])
def test_the_tests_of_a_threat_exist(row: str) -> None:
    shown_by = row.split("|")[-2]
    names = re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", shown_by)
    assert any(path for path, _ in names), row
    path = ""
    for other, name in names:
        path = other or path
        assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"
