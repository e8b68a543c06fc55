"""Class names as prompts: reading a prompt file, and refusing names that would give misleading results."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stale_runtime.errors import PromptError
from stale_runtime.inputs.prompt_lists import split_name, why_not_a_list
from stale_runtime.system.files import MEGABYTE, read_piped_text, read_text
from stale_runtime.system.text import fold, has_unusable_characters

LARGEST_FILE = MEGABYTE
MOST_PROMPTS = 4096
LONGEST_PROMPT = 2000
"""Characters. CLIP's own limit of 77 tokens is checked when a prompt is encoded; this one limits the work before."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """A checked list of class names."""

    names: tuple[str, ...]
    """K class names, the labels of detections."""
    places: tuple[str, ...]
    """Where each name comes from, such as file and line, for messages."""
    split_names: bool = False
    """Whether names such as "BaseballPitch" are prompted as "Baseball pitch", see ``split_name``."""

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """(K,) what takes the place of each name in the prompt. All differ for CLIP, which ignores case and blanks."""
        return tuple(map(split_name, self.names)) if self.split_names else self.names

    def __post_init__(self) -> None:
        if not self.names:
            raise PromptError("no prompts, expected at least one class name")
        if len(self.names) > MOST_PROMPTS:
            raise PromptError(f"{len(self.names):,} prompts, expected at most {MOST_PROMPTS:,}; split the list")
        first: dict[str, str] = {}
        for name, text, place in zip(self.names, self.texts, self.places, strict=True):
            if not name.strip():
                raise PromptError(f"{place}: an empty prompt, expected a class name")
            if len(name) > LONGEST_PROMPT:
                raise PromptError(
                    f"{place}: {len(name)} characters, expected a class name of at most {LONGEST_PROMPT}; shorten it"
                )
            if has_unusable_characters(name):
                raise PromptError(f"{place}: control characters in {name[:40]!r}, expected plain text; remove them")
            same = fold(text)
            if same in first:
                raise PromptError(
                    f"{place}: duplicate prompt {text!r}, already given at {first[same]}; remove one of them"
                )
            first[same] = place

    @classmethod
    def of(cls, names: Iterable[str], *, split_names: bool = False) -> "Prompts":
        """Check class names that are given by a program or on the command line instead of in a file."""
        names = tuple(names)
        places = tuple(f"prompt {i}" for i in range(1, len(names) + 1))
        return cls(names=names, places=places, split_names=split_names)


def read_prompts(path: str | os.PathLike[str], *, split_names: bool = False) -> Prompts:
    """Read a prompt file: UTF-8, one class name per line; blank lines and lines that start with ``#`` are skipped.

    Args:
        path: the file; ``-`` for standard input. A pipe that is open already is read too, as ``<(command)`` of a shell.
        split_names: see ``Prompts``.

    Raises:
        PromptError: the file cannot be read, is not text, is no list, contains no class name, or a line cannot be used.
    """
    text = read_piped_text(Path(path), limit=LARGEST_FILE, error=PromptError)
    if text is None:
        text = read_text(Path(path), limit=LARGEST_FILE, error=PromptError)
    lines = text.split("\n")
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    kept = [(number, line) for number, line in numbered if line and not line.startswith("#")]
    if not kept:
        raise PromptError(f"{path}: no prompts, expected one class name per line")
    if (why := why_not_a_list([line for _, line in kept])) is not None:
        raise PromptError(f"{path}, line {kept[0][0]}: {why}")
    names, places = tuple(line for _, line in kept), tuple(f"{path}, line {number}" for number, _ in kept)
    return Prompts(names=names, places=places, split_names=split_names)


def as_prompts(prompts: Prompts | Sequence[str]) -> Prompts:
    """Return prompts unchanged, and check class names.

    Raises:
        PromptError: a name cannot be used.
    """
    if isinstance(prompts, str):
        raise PromptError(f"one string {prompts[:40]!r}, expected a list of class names")
    return prompts if isinstance(prompts, Prompts) else Prompts.of(prompts)
