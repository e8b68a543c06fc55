"""Checkpoints, ours and the original's, zip files and older ones, changed in the pickle, the weights or around them."""

import argparse
import io
import json
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import numpy as np
import torch
from transformers.utils import logging

from stale_export.vision_tower import read_vision_tower
from stale_model import read_checkpoint
from stale_model.checkpoints.clip import read_clip_parts, text_encoder_spec
from stale_model.checkpoints.legacy_archive import HEAD
from stale_model.checkpoints.own_checkpoint import StaleWithText, checkpoint_bytes, pack_checkpoint
from tests import tiny
from tests.fuzz.mutations import mutate_bytes, mutate_json
from tests.fuzz.target import Choices, Target

_GLOBALS: tuple[str, ...] = (
    "builtins bytearray",
    "builtins set",
    "collections OrderedDict",
    "collections Counter",
    "os system",
)
_GLOBALS += (
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_sparse_tensor",
)
_GLOBALS += ("torch FloatStorage", "torch LongStorage", "torch ComplexFloatStorage", "torch FloatTensor", "torch Size")
_GLOBALS += ("torch._utils _rebuild_qtensor", "torch._utils _rebuild_meta_tensor_no_storage", "torch device")
_GLOBALS += ("torch.storage UntypedStorage", "torch._utils _rebuild_wrapper_subclass", "torch.nn.parameter Parameter")
_GLOBALS += ("argparse Namespace", "collections defaultdict", "_codecs encode", "numpy.core.multiarray scalar", "x y")
_INTEGERS = (0, 1, 2, 3, 5, 16, 255, 2**16, 2**30, 2**31 - 1, -1, -(2**31))
_TEXTS: tuple[str, ...] = (
    "",
    "x",
    "0",
    "\n",
    "state_dict",
    "module.",
    "tower.clip.text_model.encoder.layers.7.x",
    "bg_embeddings",
)
_TEXTS += ("attn_implementation", "num_hidden_layers", "hidden_act", "gelu", "cuda", "format_version", "channels")
_SHARE, _COMPLETE = 48, 4
"""Of this many inputs, one begins with each of the complete checkpoints, which are so many."""
_BEFORE, _AFTER = "before", "after"


def _doubled(asked: bytes, made: bytes) -> bytes:
    """A tuple with a dictionary whose key contains the same value 2**47 times, each made of the previous one twice.

    Args:
        asked: the operation that names the function to call; empty for none.
        made: operations that make a value of the two on the stack.
    """
    function = b"h\xc0" if asked else b""
    values = (function + b"h%ch%c" % (n, n) + made + b"q%c" % (n + 1) for n in range(0xC1, 0xF0))
    return b"](" + asked + b"q\xc0" * bool(asked) + b")q\xc1" + b"".join(values) + b"e}h\xf0Ns\x86"


FRAGMENTS = (
    *(b"c" + name.replace(" ", "\n").encode() + b"\n" for name in _GLOBALS),
    *(b"J" + number.to_bytes(4, "little", signed=True) for number in _INTEGERS),
    *(b"\x8a\x09" + number.to_bytes(9, "little", signed=True) for number in (2**53, 2**62, 2**63, 2**64, -(2**63))),
    *(b"X" + len(text.encode()).to_bytes(4, "little") + text.encode() for text in _TEXTS),
    b"X\x03\x00\x00\x00\xed\xa0\x80",  # half a character
    *(b"G" + struct.pack(">d", number) for number in (0.0, 0.5, -1.0, 1e308, float("nan"), float("inf"))),
    *(bytes([code]) for code in b"N}])(tuse0ab.RQ\x85\x86\x87\x88\x89\x81\x93\x94"),
    *(b"h" + bytes([slot]) for slot in (0, 1, 2, 3, 9, 10, 11, 14)),
    *(b"q" + bytes([slot]) for slot in (0, 1, 2, 9)),
    b"]q\xf0(h\xf0h\xf0e",
    b"".join((b"]q\xf0", *(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(0xF0, 0xFF)))),
    b"".join((b"K\x01\x85q\xc0", *(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(0xC0, 0xF0)))),
    *(
        _doubled(asked, made)
        for asked, made in (
            (b"ctorch._utils\n_rebuild_tensor_v2\n", b"\x86R"),
            (b"ctorch._utils\n_rebuild_parameter\n", b"\x86\x85R"),
            (b"ctorch._utils\n_rebuild_parameter\n", b"\x86R"),
            (b"", b"\x86Nb"),
            (b"", b"\x86(u"),
            (b"", b"\x86(e"),
        )
    ),
)


def checkpoint_target(folder: Path) -> Target:
    """Target for ``read_checkpoint`` of all formats: the input's bytes choose the format and the changes.

    A complete checkpoint takes a twentieth of a second to read, so most inputs begin with one of a few tensors, which
    goes through the whole reader and is refused at its end because tensors are missing.
    """
    torch.set_num_threads(1)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    clip = tiny.write_clip_folder(folder / "tiny-clip")
    bases = _bases(clip)
    path = folder / "best.pth"

    def run(data: bytes) -> object:
        path.write_bytes(changed(bases, data))
        return read_checkpoint(path, str(clip))

    dice = Random(0)
    damaged = (bytes([n, 0]) + dice.randbytes(4 * n) for n in range(2, 40))
    return Target(seeds=(b"", *(bytes([n, 0]) for n in range(1, 8)), *damaged), run=run)


def clip_target(folder: Path) -> Target:
    """A CLIP's ``config.json`` and ``tokenizer.json``, which an input holds side by side; if it is no JSON, is each."""
    place = tiny.write_clip_folder(folder / "tiny-clip")
    names = "config.json", "tokenizer.json"
    whole = json.dumps({name: json.loads((place / name).read_bytes()) for name in names}).encode()

    def run(data: bytes) -> object:
        _write_side_by_side(place, names, data)
        return text_encoder_spec(read_clip_parts(str(place)))

    return Target(seeds=(whole,), run=run, mutate=mutate_json)


def vision_target(folder: Path) -> Target:
    """A vision tower's ``config.json`` and ``preprocessor_config.json``, side by side; if it is no JSON, is each."""
    place = tiny.write_vision_folder(folder / "tiny-vision")
    names = "config.json", "preprocessor_config.json"
    images = {"size": {"shortest_edge": tiny.IMAGE_SIZE}, "crop_size": tiny.IMAGE_SIZE, "image_mean": [0.5, 0.5, 0.5]}
    whole = json.dumps({names[0]: json.loads((place / names[0]).read_bytes()), names[1]: images}).encode()

    def run(data: bytes) -> object:
        _write_side_by_side(place, names, data)
        return read_vision_tower(str(place)).recipe

    return Target(seeds=(whole,), run=run, mutate=mutate_json)


def changed(bases: tuple["Base", ...], data: bytes) -> bytes:
    """A checkpoint with the changes that bytes ask for."""
    choices = Choices(data)
    number = choices.below(_SHARE)
    base = bases[number] if number < _COMPLETE else bases[_COMPLETE + number % (len(bases) - _COMPLETE)]
    operations, others = list(base.operations), dict[str, bytes]()
    while choices.left:
        kind = choices.below(10)
        at = choices.below(len(operations)) if operations else 0
        fragment = FRAGMENTS[choices.below(len(FRAGMENTS))]
        if kind in (0, 1):
            operations[at : at + 1] = [fragment]
        elif kind == 2:
            operations[at:at] = [fragment]
        elif kind == 3:
            del operations[at : at + 1 + choices.below(4)]
        elif kind == 4 and operations:
            operations[at] = operations[choices.below(len(operations))]
        elif kind == 5 and operations:
            operations[at] = mutate_bytes(operations[at], Random(choices.below(2**16)))
        elif kind == 6 and base.integers:
            at = base.integers[choices.below(len(base.integers))] % max(1, len(operations))
            operations[at : at + 1] = [b"J" + choices.piece(4).ljust(4, b"\0")]
        elif kind == 7:
            name = base.names[choices.below(len(base.names))]
            others[name] = mutate_bytes(base.members[name], Random(choices.below(2**16)))
        elif kind == 8:
            return mutate_bytes(base.packed(b"".join(operations), others), Random(choices.below(2**16)))
        elif kind == 9:
            others[f"{base.prefix}/data/{choices.piece(choices.below(12)).hex()}"] = choices.piece(choices.below(8))
    return base.packed(b"".join(operations), others)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A checkpoint in parts."""

    prefix: str
    """The folder that everything is in; for an older file, nothing."""
    pickle: bytes
    members: Mapping[str, bytes]
    """All other members, by name; for an older file, what comes before the pickle and what comes after it."""

    @classmethod
    def of(cls, data: bytes) -> "Base":
        """Take a checkpoint apart."""
        if data.startswith(HEAD):
            return _legacy_base(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        (name,) = (name for name in members if name.endswith("/data.pkl"))
        return cls(prefix=name.partition("/")[0], pickle=members.pop(name), members=members)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the other members."""
        return tuple(self.members)

    @cached_property
    def operations(self) -> tuple[bytes, ...]:
        """The pickle's operations."""
        starts = [position or 0 for _, _, position in pickletools.genops(self.pickle)]
        return tuple(self.pickle[a:b] for a, b in zip(starts, [*starts[1:], len(self.pickle)], strict=True))

    @cached_property
    def integers(self) -> tuple[int, ...]:
        """Which of the operations are numbers: sizes, strides, offsets, versions."""
        return tuple(n for n, operation in enumerate(self.operations) if operation[:1] in (b"J", b"K", b"M"))

    def packed(self, pickle: bytes, others: Mapping[str, bytes]) -> bytes:
        """The checkpoint with another pickle, and with some of its members changed or added; checksums agree."""
        if not self.prefix:
            parts = {**self.members, **others}
            return parts[_BEFORE] + pickle + parts[_AFTER]
        body, directory, number = self._head(others)
        last, entry = _member(f"{self.prefix}/data.pkl", pickle, len(body))
        body += last
        directory += entry
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number + 1, number + 1, len(directory), len(body), 0)
        return body + directory + end

    def _head(self, others: Mapping[str, bytes]) -> tuple[bytes, bytes, int]:
        if not others:
            return self._unchanged
        return _packed({**self.members, **others})

    @cached_property
    def _unchanged(self) -> tuple[bytes, bytes, int]:
        return _packed(self.members)


def _legacy_base(data: bytes) -> Base:
    file = io.BytesIO(data)
    for _ in range(4):  # magic number, version, sizes, content
        start = file.tell()
        list(pickletools.genops(file))
    before, content, after = data[:start], data[start : file.tell()], data[file.tell() :]
    return Base(prefix="", pickle=content, members={_BEFORE: before, _AFTER: after})


def _packed(members: Mapping[str, bytes]) -> tuple[bytes, bytes, int]:
    """Members as a zip file has them, their entries in its directory, and how many they are."""
    body, directory = bytearray(), bytearray()
    for name, content in members.items():
        member, entry = _member(name, content, len(body))
        body += member
        directory += entry
    return bytes(body), bytes(directory), len(members)


def _member(name: str, content: bytes, at: int) -> tuple[bytes, bytes]:
    """A member of a zip file, stored; and its entry. ``zipfile`` does the same in 50 times the time."""
    label = name.encode()
    fields = struct.pack(
        "<3HLLLLHH", 0, 0, 0, 0x00210000, zlib.crc32(content), len(content), len(content), len(label), 0
    )
    entry = b"PK\1\2" + struct.pack("<2H", 20, 20) + fields[2:] + struct.pack("<3HLL", 0, 0, 0, 0, at) + label
    return b"PK\3\4" + struct.pack("<H", 20) + fields[2:] + label + content, entry


def _bases(clip: Path) -> tuple[Base, ...]:
    network, tower = tiny.make_network(), tiny.make_tower(clip)
    state = {f"module.{name}": tensor for name, tensor in tiny.upstream_state(network, tower).items()}
    own = pack_checkpoint(StaleWithText(network, tower), read_clip_parts(str(clip)), tiny.CLASSES, {"seed": 0})
    original = {"epoch": 3, "state_dict": state}
    small_own = {**own, "state_dict": _few(own["state_dict"]), "format_version": 2}
    small = {"epoch": 3, "state_dict": _few(state), "args": argparse.Namespace(lr=1e-4, kinds={1}, best=np.float64(1))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            *(Base.of(checkpoint_bytes(content)) for content in (original, own)),
            *(Base.of(_legacy_bytes(content)) for content in (original, own)),
            *(Base.of(checkpoint_bytes(content)) for content in (small_own, small)),
            *(Base.of(_legacy_bytes(content)) for content in (small, _few(state))),
        )


def _legacy_bytes(content: object) -> bytes:
    """A checkpoint as PyTorch before 1.6 wrote it."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _few(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: tensor for name, tensor in state.items() if tensor.ndim < 3 and tensor.numel() < 20 and "norm" in name
    }


def _write_side_by_side(place: Path, names: tuple[str, ...], data: bytes) -> None:
    """Write the JSON files that an input holds side by side; if it is no JSON, each of them is the input."""
    try:
        content = json.loads(data)
        files = [json.dumps(content[name]).encode() for name in names]
    except (ValueError, RecursionError, TypeError, KeyError):
        files = [data] * len(names)
    for name, file in zip(names, files, strict=True):
        (place / name).write_bytes(file)
