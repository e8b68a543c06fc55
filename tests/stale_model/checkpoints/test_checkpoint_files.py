"""Files that are no checkpoint, or not the one that goes with the CLIP folder."""

import argparse
import copy
import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stale_model import read_original_checkpoint
from stale_model.checkpoints.loading import load_plain
from stale_runtime.errors import CheckpointError
from tests import tiny
from tests.runtime.helpers import make_fifo, no_waiting


def refusal(path: Path, clip_folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_original_checkpoint(path, str(clip_folder))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("content", [b"", b"\0", b"not a checkpoint", b"PK\x03\x04", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, clip_folder: Path, content: bytes) -> None:
    (tmp_path / "best.pth").write_bytes(content)
    refusal(tmp_path / "best.pth", clip_folder)


def test_a_missing_file_is_refused(tmp_path: Path, clip_folder: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere.pth", clip_folder)


def test_a_folder_is_refused(tmp_path: Path, clip_folder: Path) -> None:
    assert "directory" in refusal(tmp_path, clip_folder)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99, 0.9999])
def test_a_truncated_file_is_refused(checkpoint: Path, tmp_path: Path, clip_folder: Path, share: float) -> None:
    content = checkpoint.read_bytes()
    (tmp_path / "best.pth").write_bytes(content[: int(len(content) * share)])
    refusal(tmp_path / "best.pth", clip_folder)


def test_a_compressed_file_is_refused(checkpoint: Path, tmp_path: Path, clip_folder: Path) -> None:
    path = tmp_path / "best.pth"
    with zipfile.ZipFile(checkpoint) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as compressed:
        for member in stored.infolist():
            compressed.writestr(member.filename, stored.read(member), zipfile.ZIP_DEFLATED)
    assert "uncompressed" in refusal(path, clip_folder)


def test_any_other_zip_is_refused(tmp_path: Path, clip_folder: Path) -> None:
    with zipfile.ZipFile(tmp_path / "best.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refusal(tmp_path / "best.pth", clip_folder)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9999])
def test_a_truncated_file_of_old_pytorch_is_refused(
    checkpoint: Path, tmp_path: Path, clip_folder: Path, share: float
) -> None:
    path = tmp_path / "best.pth"
    torch.save(torch.load(checkpoint, weights_only=True), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refusal(path, clip_folder)


def test_flipped_bytes_never_end_in_anything_but_a_refusal(checkpoint: Path, tmp_path: Path, clip_folder: Path) -> None:
    content, path, dice = checkpoint.read_bytes(), tmp_path / "best.pth", random.Random(0)
    refusals = []
    for _ in range(100):
        damaged = bytearray(content)
        for _ in range(dice.choice([1, 1, 8])):
            damaged[dice.choice([dice.randrange(len(content)), -dice.randrange(1, 4000)])] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        try:
            read_original_checkpoint(path, str(clip_folder))
        except CheckpointError as problem:
            refusals.append(str(problem))
    assert len(refusals) > 30
    assert not any("\n" in message for message in refusals)


PLACES = ["bare pickle", "as the whole content", "inside the state", "beside the state"]
PLACES += ["in a namespace", "in a set", "as what a dictionary makes"]


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("module", PLACES)
def test_code_in_a_checkpoint_is_not_run(
    checkpoint: Path, tmp_path: Path, clip_folder: Path, module: str, is_zip: bool
) -> None:
    path, target = tmp_path / "best.pth", tmp_path / "ran"
    save = partial(torch.save, _use_new_zipfile_serialization=is_zip)
    content = torch.load(checkpoint, weights_only=True)
    if module == "bare pickle":
        path.write_bytes(pickle.dumps(Bomb(target)))
    elif module == "as the whole content":
        save(Bomb(target), path)
    elif module == "inside the state":
        save({"epoch": 1, "state_dict": {**content["state_dict"], "module.proj.0.weight": Bomb(target)}}, path)
    else:
        beside: dict[str, object] = {
            "beside the state": Bomb(target),
            "in a namespace": argparse.Namespace(lr=1e-4, hook=[Bomb(target)]),
            "in a set": {Bomb(target)},
            "as what a dictionary makes": defaultdict(partial(os.system, f"touch {target}")),
        }
        save({**content, "args": beside[module]}, path)
    refusal(path, clip_folder)
    assert not target.exists()


def with_pickle(checkpoint: Path, path: Path, content: bytes) -> Path:
    """A copy of a checkpoint with another pickle in it."""
    with zipfile.ZipFile(checkpoint) as good, zipfile.ZipFile(path, "w") as changed:
        for member in good.infolist():
            is_pickle = member.filename.endswith("data.pkl")
            changed.writestr(member.filename, content if is_pickle else good.read(member))
    return path


def test_tuples_that_take_years_to_hash_are_refused(checkpoint: Path, tmp_path: Path, clip_folder: Path) -> None:
    doubled = b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(100))
    content = b"\x80\x02}q\xff)q\x00" + doubled + b"K\x01s."  # {((...), (...)): 1}
    with no_waiting():
        assert "tuples that are shared" in refusal(with_pickle(checkpoint, tmp_path / "best.pth", content), clip_folder)


def test_what_would_take_any_amount_of_memory_is_refused(checkpoint: Path, tmp_path: Path, clip_folder: Path) -> None:
    content = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."  # bytearray(2147483647)
    path = with_pickle(checkpoint, tmp_path / "best.pth", content)
    assert "it asks for builtins bytearray" in refusal(path, clip_folder)


def test_members_that_overlap_are_refused(checkpoint: Path, tmp_path: Path, clip_folder: Path) -> None:
    path = Path(shutil.copy(checkpoint, tmp_path / "best.pth"))
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        for n in range(-(-path.stat().st_size // largest.file_size)):
            again = copy.copy(largest)
            again.filename = f"{largest.filename.partition('/')[0]}/data/{1000 + n}"
            archive.filelist.append(again)
        archive.writestr("last", b"")  # or the directory would not be written
    assert "uncompressed" in refusal(path, clip_folder)


BOMB = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."  # bytearray(2147483647)
HARMLESS = b"\x80\x02}."
LAST = b"PK\5\6" + bytes(18)


def test_the_format_of_old_pytorch_with_the_end_of_a_zip_is_refused(tmp_path: Path, clip_folder: Path) -> None:
    sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, sizes))
    path = tmp_path / "best.pth"
    path.write_bytes(head + BOMB + pickle.dumps([], protocol=2) + LAST)
    assert isinstance(torch.load(path, weights_only=True), bytearray)  # else it tests nothing
    assert "it asks for builtins bytearray" in refusal(path, clip_folder)


def two_directories(hidden: bytes, shown: bytes) -> bytes:
    """A zip file of which PyTorch reads one pickle, and Python, which reckons from the end, the other."""
    parts = []
    for content in (hidden, shown):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", "3\n")
        packed = buffer.getvalue()
        size, at = struct.unpack("<2L", packed[-10:-2])
        parts.append((packed[:at], packed[at : at + size]))
    (body, directory), (other_body, other) = parts
    moved, entry = bytearray(other), 0
    while entry < len(moved):
        (at,) = struct.unpack_from("<L", moved, entry + 42)
        struct.pack_into("<L", moved, entry + 42, at + len(body) - len(other_body))
        entry += 46 + struct.unpack_from("<H", moved, entry + 28)[0]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory), len(body), 0)
    return body + directory + other_body + bytes(moved) + end


def test_what_pytorch_reads_is_what_was_looked_through(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    path.write_bytes(two_directories(BOMB, HARMLESS))
    assert isinstance(torch.load(path, weights_only=True), bytearray)  # else it tests nothing
    assert load_plain(path).content == {}


def test_a_pipe_is_not_waited_for(tmp_path: Path, clip_folder: Path) -> None:
    with no_waiting():
        refusal(make_fifo(tmp_path / "best.pth"), clip_folder)


def test_the_bomb_is_a_bomb(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([1, 2], "list"),
        (torch.zeros(3), "Tensor"),
        ({"epoch": 3}, "keys epoch.*save its weights with torch.save({'state_dict': model."),
        ({"epoch": torch.tensor(3), "mine": {"a": torch.zeros(3)}}, "keys epoch, mine.*torch.save({'state_dict': "),
        ({"epoch": 3, "model": "STALE"}, "keys epoch, model.*torch.save({'state_dict': model."),
        ({"a": torch.zeros(3), "b": 3}, "b in 'state_dict' is not a tensor but int.*torch.save({'state_dict': model."),
        ({"model": {}, "two\nlines": {}}, "model"),
        ({"state_dict": {}}, "state_dict"),
        ({"state_dict": [torch.zeros(3)]}, "state_dict"),
        ({"state_dict": {7: torch.zeros(3)}}, "7"),
        ({"state_dict": {"module.": torch.zeros(3)}}, "unknown"),
        (torch.nn.Linear(2, 2), "contains torch.nn.modules.linear Linear, .*torch.save({'state_dict': model."),
        ({"epoch": 3, "model": torch.nn.Linear(2, 2)}, "contains torch.nn.modules.linear Linear"),
        ({"state_dict": {"bg_embeddings": np.zeros(3)}}, "the weight bg_embeddings cannot be read: it asks for numpy"),
    ],
)
def test_other_contents_are_refused_and_named(tmp_path: Path, clip_folder: Path, content: object, named: str) -> None:
    torch.save(content, tmp_path / "best.pth")
    message = refusal(tmp_path / "best.pth", clip_folder).removeprefix(str(tmp_path))
    assert all(part in message for part in named.split(".*"))


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("num_hidden_layers", 2, "1 layers.*my-clip describes 2"),
        ("hidden_size", 12, r"token_embedding.*\(55, 8\), expected \(55, 12\)"),
        ("intermediate_size", 20, r"fc1.*\(16, 8\), expected \(20, 8\)"),
        ("vocab_size", 77, r"token_embedding.*\(55, 8\), expected \(77, 8\)"),
        ("max_position_embeddings", 10, rf"position_embedding.*\({tiny.CONTEXT}, 8\), expected \(10, 8\)"),
        ("projection_dim", 20, r"text_projection.*\(16, 8\), expected \(20, 8\)"),
    ],
)
def test_a_tower_that_does_not_fit_the_clip_folder_is_refused(
    checkpoint: Path, clip_folder: Path, tmp_path: Path, key: str, value: int, named: str
) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "my-clip"))
    content = json.loads((folder / "config.json").read_text())
    content["text_config"][key] = value
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=named) as caught:
        read_original_checkpoint(checkpoint, str(folder))
    assert "\n" not in str(caught.value)


def test_a_tower_as_wide_as_its_folder_but_not_as_the_network_is_refused(
    checkpoint: Path, clip_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "my-clip"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["projection_dim"] = 20
    (folder / "config.json").write_text(json.dumps(config))
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["module.txt_model.text_projection.weight"] = torch.zeros(20, 8)
    torch.save(content, tmp_path / "best.pth")
    assert "20 wide" in refusal(tmp_path / "best.pth", folder)
