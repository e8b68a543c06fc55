"""Class names as prompts: reading a prompt file, and refusing names that would give misleading results."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from stale_runtime.errors import PromptError
from stale_runtime.system.files import MEGABYTE, read_text
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
    def of(cls, names: Iterable[str]) -> "Prompts":
        """Check class names that are given by a program instead of a file."""
        names = tuple(names)
        return cls(names=names, places=tuple(f"prompt {i}" for i in range(1, len(names) + 1)))


def split_name(name: str) -> str:
    """Write a class name whose words run together as separate words: "BaseballPitch" becomes "Baseball pitch".

    A word begins at a capital that follows two letters, the second of them small ("Tai|Chi", but not "iPhone"), or
    that follows a capital or digit and precedes two small letters ("BMX|Race", "Making|A|Cake", but not "DVDs"). It
    loses its capital, unless it is an abbreviation ("Riding|BMX"). Names without such a place stay as they are: "BMX",
    "Ping-Pong", "Long Jump".
    """
    begins = [0, *(n for n in range(2, len(name)) if _begins_word(name, n)), len(name)]
    first, *others = (name[start:end] for start, end in pairwise(begins))
    return " ".join([first, *(word if word[1:].isupper() else word[0].lower() + word[1:] for word in others)])


def _begins_word(name: str, n: int) -> bool:
    before, after = name[n - 2 : n], name[n + 1 : n + 3]
    ends_word = before.isalpha() and before[1].islower()
    ends_abbreviation = (before[1].isupper() or before[1].isdigit()) and len(after) == 2
    return name[n].isupper() and (ends_word or (ends_abbreviation and after.isalpha() and after.islower()))


def read_prompts(path: str | os.PathLike[str], *, split_names: bool = False) -> Prompts:
    """Read a prompt file: UTF-8, one class name per line; blank lines and lines that start with ``#`` are skipped.

    Args:
        path: the file.
        split_names: see ``Prompts``.

    Raises:
        PromptError: the file cannot be read, is not text, contains no class name, or a line cannot be used.
    """
    lines = read_text(Path(path), limit=LARGEST_FILE, error=PromptError).split("\n")
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    kept = [(number, line) for number, line in numbered if line and not line.startswith("#")]
    if not kept:
        raise PromptError(f"{path}: no prompts, expected one class name per line")
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
