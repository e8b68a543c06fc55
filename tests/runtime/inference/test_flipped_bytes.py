"""A thousand flipped bytes all over a bundle: none gets as far as inference."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.commands.run import stale_run
from stale_runtime.errors import BundleError
from stale_runtime.inference import backends as backends_module
from stale_runtime.inference import text_encoder as text_encoder_module
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.inference.bundle_check import self_test
from tests import tiny
from tests.export.approximation import write_fast_bundle

POSITIONS = 1000
NEVER_RUN = {"selftest.npz", "localizer.torch.pth", "localizer.torch-int8.pth"}
"""Files that ``stale-run`` reads only for ``--self-test``."""


@pytest.fixture
def work(bundle: Path, features: NDArray[np.float32], tmp_path: Path) -> Path:
    write_fast_bundle(bundle, tmp_path / "bundle", tiny.make_network(), limit=0)
    np.save(tmp_path / "v.npy", features)
    (tmp_path / "classes.txt").write_text("\n".join([*tiny.CLASSES, "a class that the bundle does not know"]))
    return tmp_path


def flips(folder: Path) -> Iterator[tuple[str, int, int]]:
    """File, position and flipped bits of seeded random flips, equally many in each file."""
    generator = np.random.default_rng(7)
    files = sorted(folder.iterdir())
    for n in range(POSITIONS):
        path = files[n % len(files)]
        yield path.name, int(generator.integers(path.stat().st_size)), int(generator.integers(1, 256))


def flip(file: BinaryIO, position: int, bits: int) -> None:
    file.seek(position)
    (byte,) = file.read(1)
    file.seek(position)
    file.write(bytes([byte ^ bits]))
    file.flush()


def run(work: Path, backend: str) -> None:
    """``stale-run`` in this process, on a class that needs the text encoder."""
    arguments = [str(work / "v.npy"), "--prompts", str(work / "classes.txt"), "--bundle", str(work / "bundle")]
    stale_run.main([*arguments, "--backend", backend, "--no-cache"], standalone_mode=False)


def test_a_flipped_byte_anywhere_is_found_before_inference(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = work / "bundle"
    intact = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    def open_intact(model: bytes, **options: object) -> object:
        assert hashlib.sha256(model).hexdigest() in intact
        return open_session(model, **options)  # type: ignore[arg-type]

    for module in (backends_module, text_encoder_module):
        monkeypatch.setattr(module, "open_session", open_intact)
    backends = {b.file: b.name for b in LOCALIZER_BACKENDS.values() if b.engine == "onnxruntime"}
    found = dict.fromkeys((path.name for path in folder.iterdir()), 0)
    for name, position, bits in flips(folder):
        with open(folder / name, "r+b") as file:
            flip(file, position, bits)
            if name not in NEVER_RUN:
                with pytest.raises(BundleError, match=name):
                    run(work, backends.get(name, "ort-fp32"))
            with pytest.raises(BundleError, match=name):
                next(check for check in self_test(Bundle(folder)) if check.what == name)
            flip(file, position, bits)
        found[name] += 1
    assert sum(found.values()) == POSITIONS
    assert min(found.values()) >= POSITIONS // len(found)
    assert found.keys() == {
        *(backend.file for backend in LOCALIZER_BACKENDS.values()),
        *(layout.MANIFEST, layout.PROMPTS, layout.TEXT_ENCODER, layout.TOKENIZER),
        *NEVER_RUN,
    }
    run(work, "ort-fp32")
    assert all(check.passed for check in self_test(Bundle(folder)))
