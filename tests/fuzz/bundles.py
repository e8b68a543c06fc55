"""A bundle small enough to be opened in milliseconds, intact or broken in every way in which a folder can be."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from stale_export.graph_builder import serialize
from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import pack_arrays
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import FileRecord, GraphSpec, Manifest, TensorSpec, TextEncoderSpec
from stale_runtime.bundle.onnx_session import GraphLimits, open_session
from stale_runtime.bundle.signatures import Signer, verify_signature
from stale_runtime.inference.bundle_check import self_test
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inference.settings import Settings
from stale_runtime.inference.text_encoder import Tokenizer
from tests import tiny
from tests.fuzz.mutations import changed_tree, mutate_archive, mutate_bytes, mutate_json
from tests.fuzz.target import Choices, Target
from tests.runtime.bundle.test_manifest import MANIFEST, encoded
from tests.signing import make_keys

CHANNELS, LENGTH, NAME = 4, layout.SHORTEST, "polo"
MOST_CHANGES = 20
NAMES: tuple[str, ...] = (
    "",
    ".",
    "..",
    ".hidden",
    "a/b",
    "a\\b",
    "../a",
    "\ud800",
    "\0",
    "x" * 300,
    layout.MANIFEST,
    "MANIFEST.JSON",
)
NAMES += (layout.LOCALIZER_INT8, layout.TEXT_ENCODER, layout.PROMPTS, "new\nline", "\u202e")


def folder_target(folder: Path) -> Target:
    """A bundle folder that is broken as the bytes say, then opened, verified and self-tested."""
    files, manifest = parts(folder / "clip")
    place = folder / "bundle"

    def run(data: bytes) -> object:
        broken = Broken(dict(files), json.loads(manifest.to_bytes()))
        choices = Choices(data)
        for _ in range(MOST_CHANGES):  # thousands take seconds, which would count as the reader's
            if choices.left:
                broken.take(choices)
        broken.write(place)
        return use(place)

    dice = Random(0)
    return Target(seeds=(b"", *(dice.randbytes(n) for n in (4, 8, 16, 40))), run=run)


def prompts_target(folder: Path) -> Target:
    """The prompts that a bundle carries: its ``prompts.npz``, with checksums that agree."""
    files, manifest = parts(folder / "clip")
    place = folder / "bundle"

    def run(data: bytes) -> object:
        write(place, {**files, layout.PROMPTS: data}, manifest)
        return Localizer(Bundle(place), Settings(cache=False)).encode_prompts([NAME])

    return Target(seeds=(files[layout.PROMPTS],), run=run, mutate=mutate_archive)


def self_test_target(folder: Path) -> Target:
    """A bundle's recorded outputs: its ``selftest.npz``, with checksums that agree."""
    files, manifest = parts(folder / "clip")
    place = folder / "bundle"

    def run(data: bytes) -> object:
        write(place, {**files, layout.SELF_TEST: data}, manifest)
        return _replay(Bundle(place))

    return Target(seeds=(files[layout.SELF_TEST],), run=run, mutate=mutate_archive)


def tokenizer_target(folder: Path) -> Target:
    """A bundle's ``tokenizer.json``, used on prompts."""
    files, manifest = parts(folder / "clip")

    def run(data: bytes) -> object:
        return Tokenizer(data, manifest.text_encoder).suffixes([NAME, "long jump", "Caf\u00e9"])

    return Target(seeds=(files[layout.TOKENIZER],), run=run, mutate=mutate_json)


def graph_target(folder: Path) -> Target:
    """An ONNX file: our check of it, then ONNX Runtime's own loading."""
    files, _ = parts(folder / "clip")

    def run(data: bytes) -> object:
        limits = GraphLimits(working_bytes=2**28, loops=True)
        return open_session(data, name=layout.LOCALIZER_FP32, threads=1, limits=limits)

    return Target(seeds=(files[layout.LOCALIZER_FP32], files[layout.TEXT_ENCODER]), run=run)


def signature_target(folder: Path) -> Target:
    """A bundle's ``model.sig``, or the public key that it is verified with: the first byte says which."""
    keys = make_keys(folder / "keys")
    signature, public, place = Signer(keys.private).sign(MANIFEST), keys.public.read_bytes(), folder / layout.SIGNATURE

    def run(data: bytes) -> object:
        is_key = data[:1] < b"\x80"
        keys.public.write_bytes(data[1:] if is_key else public)
        verify_signature(MANIFEST, MANIFEST.sha256, signature if is_key else data[1:], keys.public, place)
        return "holds"

    return Target(seeds=(b"\0" + public, b"\xff" + signature), run=run)


def parts(clip: Path) -> tuple[dict[str, bytes], Manifest]:
    """The files and the manifest of a bundle that passes its self-test."""
    tokenizer = (tiny.write_clip_folder(clip) / layout.TOKENIZER).read_bytes()
    vocabulary = json.loads(tokenizer)["model"]["vocab"]
    spec = TextEncoderSpec(
        clip="tiny",
        context_length=tiny.CONTEXT,
        pad_token=vocabulary[tiny.END],
        prefix=(vocabulary[tiny.START],),
        prompt_template="{}",
    )
    files = _contents(tokenizer)
    graphs = {layout.LOCALIZER_FP32: _localizer_spec()}
    whole = replace(
        MANIFEST, channels=CHANNELS, heads=1, temporal_scale=LENGTH, text_encoder=spec, parity=(), graphs=graphs
    )
    return files, replace(whole, files=_records(files))


def write(place: Path, files: Mapping[str, bytes], manifest: Manifest) -> None:
    """Write a bundle whose manifest agrees with its files."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / layout.MANIFEST).write_bytes(replace(manifest, files=_records(files)).to_bytes())


def use(place: Path) -> object:
    """Do everything that a command does with a bundle, except detection."""
    bundle = Bundle(place)
    assert set(bundle.verify()) == set(bundle.manifest.files)
    return Localizer(bundle, Settings(cache=False)).encode_prompts([NAME]), _replay(bundle)


def _replay(bundle: Bundle) -> object:
    """Run the self-test without OpenVINO, which drops inputs that a graph does not use."""
    with patch("stale_runtime.inference.backends.find_spec", return_value=None):
        return list(self_test(bundle))


@dataclass
class Broken:
    """A bundle's files and manifest, which are broken step by step."""

    files: dict[str, Any]
    """By name: the content, or what replaces the file: ``link``, ``fifo``, ``folder``, ``outside``."""
    manifest: Any
    seal: bool = True
    """Whether the manifest's digest is made to agree with its content."""
    raw: bytes | None = None
    """The bytes of a manifest that is no longer JSON."""

    def take(self, choices: Choices) -> None:
        """Break one more thing."""
        names = sorted(self.files)
        name = names[choices.below(len(names))] if names else ""
        kind = choices.below(13)
        content = self.files.get(name)
        if kind == 0 and isinstance(content, bytes):
            self.files[name] = content[: choices.below(len(content) + 1)]
        elif kind == 1 and isinstance(content, bytes):
            self.files[name] = mutate_bytes(content, Random(choices.below(2**16)))
        elif kind == 2 and names:
            self.files[NAMES[choices.below(len(NAMES))]] = self.files.pop(name)
        elif kind == 3 and names:
            self.files[name] = ("link", "fifo", "folder", "outside")[choices.below(4)]
        elif kind == 4 and names:
            other = names[choices.below(len(names))]
            self.files[name], self.files[other] = self.files[other], self.files[name]
        elif kind in (5, 6):
            self.manifest = changed_tree(self.manifest, Random(choices.below(2**16)))
        elif kind == 7:
            self.files[NAMES[choices.below(len(NAMES))]] = choices.piece(choices.below(40))
        elif kind == 8:
            self.files.pop(name, None)
        elif kind == 9:
            self.seal = not self.seal
        elif kind == 10 and isinstance(self.manifest, dict):  # so that the code behind the checksums is reached
            self.manifest["files"] = _plain_records(self.files)
        elif kind == 11:
            self.raw = mutate_json(json.dumps(self.manifest).encode(), Random(choices.below(2**16)))
        elif kind == 12 and name.endswith(".npz") and isinstance(content, bytes):
            self.files[name] = mutate_archive(content, Random(choices.below(2**16)))

    def write(self, place: Path) -> None:
        """Write it to disk, as far as the file system allows."""
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name, content in self.files.items():
            if not _is_possible(name):
                continue
            if isinstance(content, bytes):
                (place / name).write_bytes(content)
            elif content == "fifo":
                os.mkfifo(place / name)
            elif content == "folder":
                (place / name).mkdir()
            else:
                (place / name).symlink_to("/etc/passwd" if content == "outside" else layout.LOCALIZER_FP32)
        if os.path.lexists(place / layout.MANIFEST):
            return
        if self.raw is not None:
            data = self.raw
        elif self.seal and isinstance(self.manifest, dict):
            data = encoded(self.manifest)
        else:
            data = (json.dumps(self.manifest, indent=1) + "\n").encode()
        (place / layout.MANIFEST).write_bytes(data)


def _is_possible(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name and name.isascii() and len(name) < 256


def _records(files: Mapping[str, bytes]) -> dict[str, FileRecord]:
    return {name: FileRecord(**record) for name, record in _plain_records(files).items()}


def _plain_records(files: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for name, content in files.items()
        if isinstance(content, bytes) and name != layout.MANIFEST
    }


def _contents(tokenizer: bytes) -> dict[str, bytes]:
    vectors = np.linspace(-1, 1, 2 * CHANNELS, dtype=np.float32)[None]
    recording = {
        "names": np.array([NAME]),
        "features": np.ones((20, CHANNELS), np.float32),
        "embeddings": vectors[:, :CHANNELS],
        "queries": vectors[:, CHANNELS:],
        layout.CAS_LOGITS: np.zeros((2, LENGTH), np.float32),
        layout.ACTION_MASKS: np.full((LENGTH, LENGTH), 0.5, np.float32),
    }
    floats, whole = TensorProto.FLOAT, TensorProto.INT64
    localizer_inputs: Mapping[str, tuple[int, list[Any]]] = {
        "features": (floats, [1, "S", CHANNELS]),
        "length": (whole, []),
        "prompts": (floats, ["K", CHANNELS]),
        "queries": (floats, ["K", CHANNELS]),
        layout.MASK_ROWS: (floats, ["P", LENGTH]),
        layout.MASK_LIFT: (floats, ["T", "P"]),
    }
    said = {
        layout.CAS_LOGITS: recording[layout.CAS_LOGITS][None],
        layout.KEPT: np.ones((1, LENGTH), np.float32),
        layout.KEPT_MASK: np.full((1, LENGTH), 0.5, np.float32),
        layout.MASK_LOGITS: np.zeros((1, LENGTH, LENGTH), np.float32),
    }
    texts = {name: recording[name] for name in layout.TEXT_ENCODER_OUTPUTS}
    return {
        layout.LOCALIZER_FP32: _graph(localizer_inputs, said),
        layout.TEXT_ENCODER: _graph({"token_ids": (whole, ["K", "L"])}, texts),
        layout.TOKENIZER: tokenizer,
        layout.PROMPTS: pack_arrays({"texts": np.array([NAME, "archery"]), "vectors": np.repeat(vectors, 2, axis=0)}),
        layout.SELF_TEST: pack_arrays(recording),
    }


def _localizer_spec() -> GraphSpec:
    shapes: Mapping[str, tuple[int | str, ...]] = {
        layout.FEATURES: ("B", "S", CHANNELS),
        layout.LENGTH: (),
        layout.PROMPT_EMBEDDINGS: ("K", CHANNELS),
        layout.QUERIES: ("K", CHANNELS),
        layout.MASK_ROWS: ("P", LENGTH),
        layout.MASK_LIFT: ("T", "P"),
    }
    kinds = {layout.LENGTH: "int64"}
    return GraphSpec(
        inputs=tuple(TensorSpec(name=n, dtype=kinds.get(n, "float32"), shape=s) for n, s in shapes.items()),
        outputs=tuple(TensorSpec(name=n, dtype="float32", shape=("B", "T")) for n in layout.LOCALIZER_OUTPUTS),
    )


def _graph(inputs: Mapping[str, tuple[int, list[Any]]], outputs: Mapping[str, Any]) -> bytes:
    """A graph with constant outputs."""
    return serialize(
        helper.make_model(
            helper.make_graph(
                [helper.make_node("Identity", [f"{name}_value"], [name]) for name in outputs],
                "graph",
                [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
                [
                    helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
                    for name, value in outputs.items()
                ],
                [numpy_helper.from_array(value, f"{name}_value") for name, value in outputs.items()],
            ),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=9,
        )
    )
