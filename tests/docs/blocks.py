"""The code blocks of a page, and the comments that say how they are tested."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
BLOCK = re.compile(
    r"^(?:<!-- (?P<comment>[^\n]*?) -->\n)?^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
SHELL = ("sh", "console")
KNOWN = (*SHELL, "python", "json", "text", "xml", "yaml", "bash")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code on a page."""

    page: str
    line: int
    """Where it begins, from 1."""
    language: str
    code: str
    not_run: str | None
    """Why it cannot be run by a test; None if it can."""
    exit_code: int
    """What its last command ends with; those before it end with 0."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a block for a shell, each with the lines that continue it; without what they print."""
        lines = self.code.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]


def read_blocks(page: str) -> list[Block]:
    """The blocks of a page of the repository, in order."""
    return list(find_blocks(page, (ROOT / page).read_text()))


def find_blocks(page: str, text: str) -> Iterator[Block]:
    """The blocks of a text, in order.

    Args:
        page: its name, for messages.
        text: all of it.

    Raises:
        ValueError: a comment before a block is meant for the tests, but gives no reason or no number.
    """
    for match in BLOCK.finditer(text):
        comment = match["comment"] or ""
        line = text.count("\n", 0, match.start("fence")) + 1
        reason = re.fullmatch(r"not run: (\S.*)", comment)
        code = re.fullmatch(r"exit code (\d+)", comment)
        if not reason and not code and re.match(r"not.?run|exit.?code", comment, re.IGNORECASE):
            raise ValueError(f"{page}:{line}: {comment!r}, expected 'not run: REASON' or 'exit code N'")
        yield Block(
            page=page,
            line=line,
            language=match["language"].strip(),
            code=match["code"],
            not_run=reason[1] if reason else None,
            exit_code=int(code[1]) if code else 0,
        )
