from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import tiny

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"
ACTIVITYNET = REFERENCE.parent / "activitynet"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The recordings of the original code, which stand beside the repository where it is developed."""
    if not REFERENCE.is_dir():
        pytest.skip("no ../shared/reference: recordings of the original code are not here")
    return REFERENCE


@pytest.fixture(scope="session")
def activitynet(reference: Path) -> Path:
    """ActivityNet's annotations, beside the recordings."""
    if not ACTIVITYNET.is_dir():
        pytest.skip("no ../shared/activitynet: ActivityNet's annotations are not here")
    return ACTIVITYNET


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's prompt cache, or finds the user's bundle."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("STALE_CACHE", str(folder))
    monkeypatch.delenv("STALE_BUNDLE", raising=False)
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration and tokenizer of a tiny CLIP."""
    return tiny.write_clip_folder(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    """A tiny checkpoint in the original's format."""
    state = tiny.upstream_state(tiny.make_network(), tiny.make_tower(clip_folder))
    return tiny.save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pth", state)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, clip_folder: Path) -> Path:
    """A bundle of the tiny checkpoint, read-only by convention: copy it to change it."""
    from stale_export import export_bundle
    from stale_model import read_original_checkpoint
    from stale_runtime import Prompts

    output = tmp_path_factory.mktemp("export") / "bundle"
    trained = read_original_checkpoint(checkpoint, str(clip_folder))
    export_bundle(trained, Prompts.of(tiny.CLASSES), output, say=lambda text: None)
    return output


@pytest.fixture(scope="session")
def reference_bundle(tmp_path_factory: pytest.TempPathFactory, reference: Path) -> Path:
    """A bundle of the reference checkpoint, at its real size."""
    from stale_export import export_bundle
    from stale_model import read_original_checkpoint
    from stale_runtime import read_prompts

    output = tmp_path_factory.mktemp("export") / "bundle"
    trained = read_original_checkpoint(reference / "best.pth", str(reference / "clip"))
    export_bundle(trained, read_prompts(reference / "classes.txt"), output, say=lambda text: None)
    return output


@pytest.fixture(scope="session")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``features`` and ``annotations.json``, of the tiny CLIP's width."""
    return tiny.write_training_data(tmp_path_factory.mktemp("training") / "data")


@pytest.fixture
def features() -> NDArray[np.float32]:
    """Snippet features (40, 16) of a video."""
    return np.random.default_rng(0).standard_normal((40, tiny.CHANNELS)).astype(np.float32)
