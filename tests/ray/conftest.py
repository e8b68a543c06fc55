"""What the tests of Ray share. ``make ray`` runs them in an environment of its own, since Ray is large."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stale_runtime import Bundle, Settings, read_prompts
from stale_runtime.ray_data.detection_plan import DetectionPlan
from stale_runtime.system.files import MEGABYTE

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BUNDLE, PROMPTS = EXAMPLES / "bundle", EXAMPLES / "classes.txt"


@pytest.fixture(scope="session", autouse=True)
def _ray_is_installed() -> None:
    pytest.importorskip("ray.data", reason="no Ray; make ray runs these tests, in an environment of its own")


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """Ray with two CPUs, in the process of the tests, like a run has it."""
    from stale_runtime.ray_data.ray_session import connected_to_ray

    with connected_to_ray(object_store_bytes=100 * MEGABYTE):
        yield


@pytest.fixture
def plan() -> DetectionPlan:
    """To detect with the bundle of the examples."""
    return DetectionPlan.make(Bundle(BUNDLE), Settings(), read_prompts(PROMPTS), videos=True)


@pytest.fixture
def feature_files(tmp_path: Path) -> Path:
    """A folder with features of thirty videos, a broken file and a torn one."""
    folder = tmp_path / "features"
    folder.mkdir()
    channels, generator = Bundle(BUNDLE).manifest.channels, np.random.default_rng(0)
    for number in range(30):
        np.save(folder / f"clip{number:02}.npy", generator.standard_normal((20 + number, channels), np.float32))
    (folder / "broken.npy").write_bytes(b"not an array")
    shutil.copy(folder / "clip00.npy", folder / "torn.npy")
    with open(folder / "torn.npy", "r+b") as file:
        file.truncate(1000)
    return folder
