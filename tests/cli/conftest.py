"""What the tests of ``stale-run`` share, and those of ``stale-train``."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import BuildOnce


@pytest.fixture
def work(bundle: Path, features: NDArray[np.float32], tmp_path: Path) -> Path:
    """A folder as a user has it: bundle, features, prompts."""
    from tests.tiny import CLASSES

    shutil.copytree(bundle, tmp_path / "stale_bundle")
    np.save(tmp_path / "v_one.npy", features)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    folder = tmp_path / "features"
    folder.mkdir()
    for name in ("v_a", "v_b", "v_c"):
        np.save(folder / f"{name}.npy", features[: 10 + 7 * ord(name[-1]) % 20])
    return tmp_path


@pytest.fixture
def options(training_data: Path, clip_folder: Path) -> list[str]:
    """Of a training of the tiny network."""
    from tests.cli.training import tiny_training

    return tiny_training(training_data, clip_folder)


@pytest.fixture(scope="session")
def unbroken(training_data: Path, clip_folder: Path, build_once: BuildOnce) -> Path:
    """The folder of a training that nobody disturbed; read-only by convention."""
    from tests.cli.training import run_here, tiny_training

    def train(folder: Path) -> None:
        done = run_here(*tiny_training(training_data, clip_folder), "-o", "out", cwd=folder)
        assert done.returncode == 0, done.stderr

    return build_once("unbroken", train) / "out"
