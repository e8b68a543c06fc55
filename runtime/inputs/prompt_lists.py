"""Files that are taken for lists of class names although they are something else, and names that find little."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise

_ONE_NAME = "expected one class name per line and nothing else"
_SEPARATORS = ",;|\t"
_STRAY = re.compile(r"[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"""Marks that cannot be seen, but change what CLIP makes of a name."""
_LISTING = {",": "a comma", ";": "a semicolon", "|": "a vertical bar"}
_NUMBERED = re.compile(r"\d+[.)]\s+(?P<name>.+)")
_BULLET = re.compile(r"[-*\u2022]\s+(?P<name>.+)")
_QUOTED = re.compile(r"([\"'])(?P<name>.+)\1,?")
_COUNTED = re.compile(r"(?P<number>\d+)\s+(?P<name>\S.*)")
_TEMPLATE = re.compile(r"(an? )?(video|photo|picture|image|clip|movie|footage|scene)s? of\b", re.IGNORECASE)


def why_not_a_list(lines: Sequence[str]) -> str | None:
    """Why lines cannot be meant as class names; None if they may be.

    Args:
        lines: at least one, none of them blank or a comment.

    Returns:
        What they are, and what is expected.
    """
    first = lines[0]
    if first in ("{", "[") or first.startswith(('{"', '["', "['", "[{")):
        return f"JSON, {_ONE_NAME}"
    if first.startswith("<"):
        return f"HTML or XML, {_ONE_NAME}"
    if "}" in lines or any(line.endswith("{") for line in lines):
        return f"a label map with braces, {_ONE_NAME}"
    if len(lines) > 1 and all(line.isdecimal() for line in lines):
        return f"numbers, {_ONE_NAME}"
    for what, find_name in _DECORATED.items():
        names = [find_name(line) for line in lines]
        start = 1 if not names[0] and len(lines) > 2 else 0  # a header
        if all(names[start:]):
            return f"{what}: {lines[start][:60]!r}, expected {names[start][:60]!r}"
    if all("\t" in line for line in lines):
        return f"columns separated by tabs, {_ONE_NAME}"
    if (name := _counted_name(lines)) is not None:
        return f"names with their numbers: {first[:60]!r}, expected {name[:60]!r}"
    return None


def describe_doubts(names: Sequence[str]) -> Iterator[str]:
    """What makes it unlikely that class names are meant as they are, a line each.

    Args:
        names: K of them.
    """
    K = len(names)
    templated = [name for name in names if _TEMPLATE.match(name)]
    if templated:
        yield (
            f"{len(templated)} of {K} prompts begin with words such as {_start(templated[0])!r}, which the template "
            "adds already; give the class names alone"
        )
    if stray := [name for name in names if _STRAY.search(name)]:
        yield (
            f"{len(stray)} of {K} prompts have marks that cannot be seen, such as {stray[0][:60]!a}; CLIP does not "
            "ignore them, type the names anew"
        )
    if K > 1 and all(map(_COUNTED.fullmatch, names)):
        yield f"all {K} prompts begin with a number, such as {names[0][:60]!r}; leave it out unless it is meant"
    for mark, what in _LISTING.items():
        if all(mark in name for name in names):
            where = "the prompt" if K == 1 else f"all {K} prompts"
            yield f"{what} in {where}, such as {names[0][:60]!r}: each line, and each --prompt, is one class name"


def split_name(name: str) -> str:
    """Write a class name whose words run together as separate words: "BaseballPitch" becomes "Baseball pitch".

    A word begins after an underscore ("long_jump"), at a capital that follows two letters, the second of them small
    ("Tai|Chi", but not "iPhone"), or that follows a capital or digit and precedes two small letters ("BMX|Race",
    "Making|A|Cake", but not "DVDs"). It loses its capital, unless it is an abbreviation ("Riding|BMX"). Names without
    such a place stay as they are: "BMX", "Ping-Pong", "Long Jump".
    """
    words = [word for part in name.split("_") for word in _cut_at_capitals(part)]
    if len(words) < 2:
        return name
    first, *others = words
    return " ".join([first, *(word if word[1:].isupper() else word[0].lower() + word[1:] for word in others)])


def describe_joined(names: Sequence[str]) -> tuple[str, str] | None:
    """How many class names run words together, and the first of them; None if none does."""
    joined = [name for name in names if split_name(name) != name]
    if not joined:
        return None
    return f"{len(joined)} of {len(names)} class names run words together, such as {joined[0]!r}", joined[0]


def _cut_at_capitals(text: str) -> list[str]:
    begins = [0, *(n for n in range(2, len(text)) if _begins_word(text, n)), len(text)]
    return [text[start:end] for start, end in pairwise(begins) if start < end]


def _begins_word(name: str, n: int) -> bool:
    before, after = name[n - 2 : n], name[n + 1 : n + 3]
    ends_word = before.isalpha() and before[1].islower()
    ends_abbreviation = (before[1].isupper() or before[1].isdigit()) and len(after) == 2
    return name[n].isupper() and (ends_word or (ends_abbreviation and after.isalpha() and after.islower()))


def _counted_name(lines: Sequence[str]) -> str | None:
    """The name in the first line, if all begin with a number that counts them: 1, 2, 3, or before a capital."""
    found = [match for line in lines if (match := _COUNTED.fullmatch(line))]
    if len(found) != len(lines) or len(lines) < 2:
        return None
    numbers = [int(match["number"][:9]) for match in found]
    consecutive = all(after - before == 1 for before, after in pairwise(numbers))
    capitals = len(set(numbers)) == len(numbers) and all(match["name"][0].isupper() for match in found)
    return found[0]["name"] if consecutive or capitals else None


def _start(name: str) -> str:
    match = _TEMPLATE.match(name)
    return name[: match.end()] if match else name


def _after_number(line: str) -> str:
    """What follows a number and a separator: ``Long jump`` in ``12,Long jump``. Empty if the line is not like that."""
    rest = line.lstrip("0123456789")
    after = rest.lstrip(" ")
    name = after[1:].strip()
    is_table = rest != line and after[:1] in (*_SEPARATORS, ":", "=") and name.strip("0123456789.,; ")
    return name if is_table else ""


def _before_number(line: str) -> str:
    """What precedes a separator and a number: ``Long jump`` in ``Long jump,12``. Empty if the line is not like that."""
    at = max(map(line.rfind, f"{_SEPARATORS}:="))
    name, number = line[: max(at, 0)].strip(), line[at + 1 :].strip()
    return name if name.strip("0123456789.,; ") and number.isdecimal() else ""


def _named_part(pattern: re.Pattern[str], line: str) -> str:
    match = pattern.fullmatch(line)
    return "" if match is None else match["name"].strip()


_DECORATED: Mapping[str, Callable[[str], str]] = {
    "a table that begins with numbers": _after_number,
    "a table that ends with numbers": _before_number,
    "a numbered list": partial(_named_part, _NUMBERED),
    "a list with bullets": partial(_named_part, _BULLET),
    "names in quotes": partial(_named_part, _QUOTED),
}
"""What a file is if all of its lines look like this, and the name in such a line. Each takes time in proportion to the
line, which may have a megabyte."""
