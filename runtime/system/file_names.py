"""Names of files that are made of other names."""

import hashlib
import re
from collections.abc import Collection, Iterable

LONGEST_NAME = 255
"""Bytes; the limit of most file systems."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029<>:"/\\|?*]|^[. ]|[. ]$')
"""What some system forbids, or treats in a special way at the beginning or end of a name."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""
_DIGITS = 8
"""Of a hash; with 100,000 names, two are the same with a probability of 1 %, and then the names still differ by it."""


def make_file_names(stems: Iterable[str], suffix: str, *, taken: Collection[str] = ()) -> list[str]:
    """A file name for each stem, the stem itself wherever that is safe on every system.

    Characters that are not safe become ``_``, long names are cut, and names that were changed so, or that differ from
    an earlier one only in capitals, end in a part of the stem's hash.

    Args:
        stems: names without a suffix, each given once.
        suffix: of the files, with the dot.
        taken: names that are used already.

    Returns:
        Names in the order of the stems, all different even where capitals do not count.
    """
    used = {name.casefold() for name in taken}
    names = []
    for stem in stems:
        name = _shorten(_UNSAFE.sub("_", stem), suffix, "")
        if name != stem + suffix or name.casefold() in used or _RESERVED.fullmatch(stem):
            digest = hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()
            lengths = range(_DIGITS, len(digest) + 1)
            tried = (_shorten(_UNSAFE.sub("_", stem), suffix, f"-{digest[:n]}") for n in lengths)
            name = next(name for name in tried if name.casefold() not in used)
        used.add(name.casefold())
        names.append(name)
    return names


def _shorten(stem: str, suffix: str, ending: str) -> str:
    """The stem, cut so that the whole name is short enough."""
    room = LONGEST_NAME - len((ending + suffix).encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + ending + suffix
