"""What several modules here need: alarms, broken files, and bundles changed so that the manifest agrees."""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import FileRecord, Manifest
from tests.runtime.bundle.test_manifest import encoded


@contextmanager
def no_waiting(seconds: int = 10) -> Iterator[None]:
    """Fail instead of hanging, where a reader might wait for a writer that never comes."""

    def fail(_number: int, _frame: object) -> None:
        pytest.fail("it waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def make_fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def npy_bytes(shape: str, data: bytes, *, descr: str = "'<f4'", fortran_order: str = "False") -> bytes:
    """A ``.npy`` file, version 1.0, whose header says what it is told to."""
    header = f"{{'descr': {descr}, 'fortran_order': {fortran_order}, 'shape': {shape}, }}"
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def altered(bundle: Path, copy: Path, **changes: object) -> Path:
    """A copy of a bundle whose manifest says something else, with a digest that agrees."""
    shutil.copytree(bundle, copy)
    content = json.loads((copy / layout.MANIFEST).read_bytes())
    content.update(json.loads(json.dumps(changes, default=asdict)))
    (copy / layout.MANIFEST).write_bytes(encoded(content))
    return copy


def with_file(bundle: Path, copy: Path, name: str, data: bytes) -> Path:
    """A copy of a bundle in which one file is another, and the manifest lists it so."""
    manifest = Manifest.from_bytes((bundle / layout.MANIFEST).read_bytes())
    record = FileRecord(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    altered(bundle, copy, files={**manifest.files, name: record})
    (copy / name).write_bytes(data)
    return copy
