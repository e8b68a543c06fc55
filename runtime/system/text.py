"""Text from untrusted sources, made safe for printing and writing."""

import unicodedata
from collections.abc import Mapping

_UNUSABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, lone surrogates, line and paragraph separators."""
_INVISIBLE = "Cf"
"""Unicode category of marks that do not print, but join letters, divide words or change their direction."""


def one_line(text: str) -> str:
    """The text on one line, with characters that a terminal would not print replaced by ``?``."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def plain_line(text: str) -> str:
    """The text on one line, for a file: blanks become spaces, and characters that XML or text may not have U+FFFD.

    Unlike ``one_line``, it keeps marks that do not print but change how letters are joined or in which direction they
    run, as emoji, Arabic and Hebrew need them.
    """
    return "".join("\ufffd" if _is_unusable(character) else character for character in " ".join(text.split()))


def as_text(name: str) -> str:
    r"""A file name as valid Unicode: bytes that are not UTF-8 are spelled out as ``\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def setting_differences(one: Mapping[str, object], other: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """The settings in which two runs differ, for messages: the name, and the beginning of its value in each."""
    values = ((name, one.get(name), other.get(name)) for name in {**one, **other})
    return [(name, str(a)[:16], str(b)[:16]) for name, a, b in values if a != b]


def fold(name: str) -> str:
    """What two names have in common if they are meant to be the same: CLIP ignores case and the number of blanks.

    Marks that cannot be seen, such as a zero-width space that was copied from a web page, are left out, too.
    """
    visible = "".join(character for character in name if unicodedata.category(character) != _INVISIBLE)
    return " ".join(unicodedata.normalize("NFC", visible).casefold().split())


def has_unusable_characters(name: str) -> bool:
    """Whether a name contains a character that would break a table, a subtitle or a terminal."""
    return any(unicodedata.category(character) in _UNUSABLE for character in name)


def _is_unusable(character: str) -> bool:
    """Whether a text file, or XML 1.0, may not have this character."""
    return unicodedata.category(character) in _UNUSABLE or ord(character) & 0xFFFE == 0xFFFE
