"""What all tests share. It loads nothing heavy itself: the process that only hands out the tests imports it too."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from playwright.sync_api import Browser

    from tests.storage.s3_server import Bucket

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"
ACTIVITYNET = REFERENCE.parent / "activitynet"
BuildOnce = Callable[[str, Callable[[Path], object]], Path]

settings.register_profile("tests", deadline=None)  # no test depends on how busy the machine is
settings.load_profile("tests")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The recordings of the original code, which stand beside the repository where it is developed."""
    if not REFERENCE.is_dir():
        pytest.skip("no ../shared/reference: the recordings of the original code are not here")
    return REFERENCE


@pytest.fixture(scope="session")
def activitynet() -> Path:
    """ActivityNet's annotations, beside the recordings."""
    if not ACTIVITYNET.is_dir():
        pytest.skip("no ../shared/activitynet: ActivityNet's annotations are not here")
    return ACTIVITYNET


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty prompt cache, so that no test reads or writes the user's, or finds the user's bundle."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("STALE_CACHE", str(folder))
    monkeypatch.delenv("STALE_BUNDLE", raising=False)
    return folder


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory) -> BuildOnce:
    """Build a folder once for all workers of pytest-xdist, and give its path; it is read-only by convention."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def build(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / name
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                unfinished = shared / f"{name}.unfinished"
                shutil.rmtree(unfinished, ignore_errors=True)  # of a worker that failed
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def clip_folder(build_once: BuildOnce) -> Path:
    """Configuration and tokenizer of a tiny CLIP."""
    from tests import tiny

    return build_once("clip", lambda folder: tiny.write_clip_folder(folder / "tiny-clip")) / "tiny-clip"


@pytest.fixture(scope="session")
def checkpoint(build_once: BuildOnce, clip_folder: Path) -> Path:
    """A tiny checkpoint in the original's format."""
    from tests import tiny

    def make(folder: Path) -> None:
        state = tiny.upstream_state(tiny.make_network(), tiny.make_tower(clip_folder))
        tiny.save_checkpoint(folder / "best.pth", state)

    return build_once("checkpoint", make) / "best.pth"


@pytest.fixture(scope="session")
def bundle(build_once: BuildOnce, checkpoint: Path, clip_folder: Path) -> Path:
    """A bundle of the tiny checkpoint, read-only by convention: copy it to change it."""
    from tests import tiny

    return build_once("export", lambda folder: tiny.write_bundle(folder / "bundle", checkpoint, clip_folder)) / "bundle"


@pytest.fixture(scope="session")
def vision_folder(build_once: BuildOnce) -> Path:
    """A tiny vision tower as Hugging Face lays it out, read-only by convention."""
    from tests import tiny

    return build_once("vision", lambda folder: tiny.write_vision_folder(folder / "tiny-vision")) / "tiny-vision"


@pytest.fixture(scope="session")
def vision_bundle(build_once: BuildOnce, checkpoint: Path, clip_folder: Path, vision_folder: Path) -> Path:
    """The tiny checkpoint's bundle with a vision tower, at two rows a second; read-only by convention."""
    from stale_runtime.inputs.recipe import FeatureRecipe
    from tests import tiny

    def make(folder: Path) -> None:
        recipe = FeatureRecipe(snippet_s=0.5, frames=1, normalised=False)
        tiny.write_bundle(folder / "bundle", checkpoint, clip_folder, vision=vision_folder, recipe=recipe)

    return build_once("vision-export", make) / "bundle"


@pytest.fixture(scope="session")
def annotated_videos(build_once: BuildOnce, vision_bundle: Path) -> Path:
    """A folder with ``videos`` and ``annotations.json``, where that bundle finds what is annotated; read-only."""
    from tests.export.annotated_videos import write_annotated_videos

    return (
        build_once("annotated-videos", lambda folder: write_annotated_videos(folder / "data", vision_bundle)) / "data"
    )


@pytest.fixture(scope="session")
def reference_bundle(build_once: BuildOnce, reference: Path) -> Path:
    """A bundle of the reference checkpoint, at its real size."""
    from stale_runtime import read_prompts
    from tests import tiny

    def make(folder: Path) -> None:
        names = read_prompts(reference / "classes.txt").names
        tiny.write_bundle(folder / "bundle", reference / "best.pth", reference / "clip", names)

    return build_once("reference-export", make) / "bundle"


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """A headless Chromium; the tests of pages are skipped without one."""
    pytest.importorskip("playwright", reason="no playwright; install it with: pip install '.[dev]'")
    from tests.page.browser import find_chromium, running_chromium

    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium; make browser installs it where that is possible")
    with running_chromium(chromium) as running:
        yield running


@pytest.fixture(scope="session")
def s3() -> Iterator[Mapping[str, str]]:
    """A server of S3 on this machine: the environment by which it is found."""
    from tests.storage.s3_server import s3_server

    with s3_server() as environment:
        yield environment


@pytest.fixture
def bucket(s3: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> "Bucket":
    """An empty bucket on that server, which the environment names."""
    from tests.storage.s3_server import make_bucket

    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return make_bucket(monkeypatch)


@pytest.fixture(scope="session")
def training_data(build_once: BuildOnce) -> Path:
    """A folder with ``features`` and ``annotations.json``, of the tiny CLIP's width."""
    from tests import tiny

    return build_once("training", lambda folder: tiny.write_training_data(folder / "data")) / "data"


@pytest.fixture
def features() -> "NDArray[np.float32]":
    """Snippet features (40, 16) of a video."""
    import numpy as np

    from tests import tiny

    return np.random.default_rng(0).standard_normal((40, tiny.CHANNELS)).astype(np.float32)
