"""Change inputs at random: bytes, JSON trees, arrays in ``.npy`` files, and archives of them."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

from tests.runtime.helpers import npy_bytes

PIECES: tuple[bytes, ...] = (
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b",",
    b'"',
    b"#",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
)
PIECES += (b"\x7f\xff\xff\xff", b"\xff" * 8, b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b"nan", b"-1e999", b"v_")
PIECES += ("\u0130".encode(), "\u2028".encode(), "e\u0301".encode(), "\U0010ffff".encode(), b"9" * 400, b" " * 200)

_DEEP = 900, 960, 985, 1000, 5000
RAW_JSON: tuple[str, ...] = (
    "NaN",
    "-Infinity",
    "1e999",
    "-1e-999",
    "-0",
    "9" * 309,
    "9" * 5000,
    '"\\ud800"',
    '"\\udc80\\u0000"',
    '"\n"',
)
RAW_JSON += tuple("[" * n + "]" * n for n in _DEEP) + tuple('{"a":' * n + "1" + "}" * n for n in _DEEP)
RAW_JSON += ('{"a":1,"a":2}', '{"v_a":{},"a":{}}', "[" + "0," * 3000 + "0]")
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    1.5,
    -0.0,
    1e308,
    5e-324,
    2**31,
    2**53,
    2**63,
    10**300,
    "",
    "a",
)
VALUES += (
    "\ud800",
    "\udc80",
    "\0",
    "\n",
    "v_",
    "v_a",
    "x" * 300,
    "../a",
    "NaN",
    [],
    {},
    [[]],
    [1, 0],
    [0, 1],
    {"a": 1},
)

SHAPES: tuple[str, ...] = (
    "()",
    "(0, 4)",
    "(-1, 4)",
    "(4,)",
    "(1, 4)",
    "(2, 4)",
    "(4, 2)",
    "(True, 4)",
    "(2.0, 4)",
    "(1, 4, 1)",
    "[1, 4]",
)
SHAPES += (
    "(262145, 4)",
    "(99999999999999999999, 4)",
    "(4611686018427387904, 4)",
    "(0, 9223372036854775807)",
    "4",
    "None",
)
SHAPES += (f"({'(' * 90}1{')' * 90}, 4)", f"({'-' * 500}1, 4)", f"({'9' * 4400}, 4)", "(1, 4" + ", 1" * 400 + ")", "{}")
DESCRS: tuple[str, ...] = (
    "'<f4'",
    "'>f4'",
    "'<f2'",
    "'<f8'",
    "'<f16'",
    "'<c8'",
    "'|O'",
    "'|V4'",
    "'<U1'",
    "'>U1'",
    "'<U0'",
    "'|S4'",
    "'?'",
)
DESCRS += ("[('a', '<f4')]", "('<f4', (2,))", "('<f4', (4611686018427387904,))", "[('a', '|O')]", "'<M8[ns]'", "'f4,O'")
DESCRS += (
    "None",
    "''",
    "'<f3'",
    "[]",
    "{'names': ['a'], 'formats': ['O']}",
    "'<f4' 'x'",
    "1",
    "'\\ud800'",
    "'e'",
    "'g'",
)
DATA = (
    b"",
    bytes(16),
    bytes(32),
    b"\xff" * 32,
    b"\x00\x00\x80\x7f" * 4,
    b"\xff\xff\x7f\x7f" * 4,
    b"\x00\xd8\x00\x00" * 4,
)


def mutate_bytes(data: bytes, dice: Random) -> bytes:
    """Flip, overwrite, insert, remove or repeat bytes, at one to four places."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4))):
        at, size = dice.randrange(len(changed) + 1), dice.choice((1, 1, 2, 4, 16, 200))
        kind = dice.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = dice.randrange(256)
        elif kind == 2:
            changed[at:at] = dice.choice(PIECES)
        elif kind == 3:
            piece = dice.choice(PIECES)
            changed[at : at + len(piece)] = piece
        elif kind == 4:
            del changed[at : at + size]
        elif kind == 5:
            changed[at:at] = changed[at : at + size] * dice.choice((1, 2, 20))
        else:
            source = dice.randrange(len(changed) + 1)
            changed[at : at + size] = changed[source : source + size]
    return bytes(changed)


def mutate_json(data: bytes, dice: Random) -> bytes:
    """Change values, keys and members of a JSON file, or sometimes its bytes."""
    try:
        tree = json.loads(data)
        if dice.random() < 0.2:
            return mutate_bytes(data, dice)
        for _ in range(dice.choice((1, 1, 2, 4))):
            tree = changed_tree(tree, dice)
        text = json.dumps(tree)
    except (ValueError, RecursionError):
        return mutate_bytes(data, dice)
    for n, raw in enumerate(RAW_JSON):
        text = text.replace(f'"@{n}@"', raw)
    return text.encode()


def changed_tree(tree: Any, dice: Random) -> Any:
    """Change one value, key or member of a parsed JSON file, in place where possible, and return the tree."""
    places = _places(tree)
    if not places:
        return _value(dice)
    container, key = dice.choice(places)
    kind = dice.randrange(7)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        new = _value(dice)
        container[new if isinstance(new, str) else str(new)] = container.pop(key)
    elif kind == 2 and isinstance(container, list):
        container[key:key] = [container[key]] * dice.choice((1, 2, 50))
    elif kind == 3:
        other, there = dice.choice(places)
        container[key] = json.loads(json.dumps(other[there]))
    elif kind == 4:
        container[key] = [container[key]]
    else:
        container[key] = _value(dice)
    return tree


def mutate_npy(data: bytes, dice: Random) -> bytes:
    """Give a ``.npy`` file another header or other data, or change its bytes."""
    if dice.random() < 0.4:
        return mutate_bytes(data, dice)
    header, content = data[:128], data[128:]
    if dice.random() < 0.3:
        return header + (dice.choice(DATA) if dice.random() < 0.5 else mutate_bytes(content, dice))
    content = content if dice.random() < 0.5 else dice.choice(DATA)
    shape = dice.choice(SHAPES) if dice.random() < 0.7 else f"({dice.randrange(9)}, {dice.randrange(9)})"
    descr = dice.choice(DESCRS) if dice.random() < 0.6 else "'<f4'"
    order = dice.choice(("False", "True", "False", "None", "1"))
    made = npy_bytes(shape, content, descr=descr, fortran_order=order)
    return made if dice.random() < 0.7 else mutate_bytes(made, dice)


def mutate_archive(data: bytes, dice: Random, member: Callable[[bytes, Random], bytes] = mutate_npy) -> bytes:
    """Change a member of a zip file, whose checksum stays right, or sometimes the bytes of the zip itself."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:
        return mutate_bytes(data, dice)
    if not members or dice.random() < 0.15:
        return mutate_bytes(data, dice)
    at = dice.randrange(len(members))
    name, content = members[at]
    kind = dice.randrange(8)
    if kind == 0:
        del members[at]
    elif kind == 1:
        members[at] = (dice.choice(("", "a.npy", "../a.npy", "names", "texts.npy", "x" * 300, "\u0130.npy")), content)
    elif kind == 2:
        members.insert(dice.randrange(len(members) + 1), (name, content))
    elif kind == 3:
        members[at] = (name, dice.choice(members)[1])
    else:
        members[at] = (name, member(content, dice))
    return pack_zip(members, zipfile.ZIP_DEFLATED if dice.random() < 0.05 else zipfile.ZIP_STORED)


def pack_zip(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of members, whose names may repeat."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that repeat
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.writestr(info, content)
    return buffer.getvalue()


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """The places of all values in a tree: container and key or index."""
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(places) < 3000:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        places += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    return places


def _value(dice: Random) -> Any:
    return f"@{dice.randrange(len(RAW_JSON))}@" if dice.random() < 0.3 else deepcopy(dice.choice(VALUES))
