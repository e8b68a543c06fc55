from pathlib import Path

import pytest

from stale_model import TrainedStale, read_original_checkpoint


@pytest.fixture(scope="session")
def localizer_model_bytes(bundle: Path) -> bytes:
    """The localizer graph of the tiny network."""
    return (bundle / "localizer.fp32.onnx").read_bytes()


@pytest.fixture(scope="session")
def text_model_bytes(bundle: Path) -> bytes:
    """The text encoder graph of the tiny tower."""
    return (bundle / "text_encoder.onnx").read_bytes()


@pytest.fixture
def trained(checkpoint: Path, clip_folder: Path) -> TrainedStale:
    """What the bundle was exported from; a test may change it."""
    return read_original_checkpoint(checkpoint, str(clip_folder))
