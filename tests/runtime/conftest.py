from pathlib import Path

import onnx
import pytest

from stale_export import Int8Options, export_bundle, exporter
from stale_model import read_original_checkpoint
from stale_runtime import Localizer, Prompts
from stale_runtime.bundle import layout
from tests import tiny
from tests.export.int8 import draw_videos, write_validation, write_videos


@pytest.fixture(scope="session")
def int8_bundle(bundle: Path, checkpoint: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all that int8 has: calibrated, validated, with an int8 text encoder; read-only by convention."""
    folder = tmp_path_factory.mktemp("int8")
    trained = read_original_checkpoint(checkpoint, str(clip_folder))
    prompts = Localizer.open(bundle).encode_prompts(tiny.CLASSES)
    annotations, features = write_validation(folder, trained.network, prompts)
    options = Int8Options(
        calibration=write_videos(folder / "training", draw_videos(10, seed=1)),
        annotations=annotations,
        validation_features=features,
        max_map_drop=5,
        text_precision="int8",
    )
    text_model = onnx.load_from_string((bundle / layout.TEXT_ENCODER).read_bytes())  # tracing it takes seconds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "text_encoder_model", lambda *_: text_model)
        export_bundle(trained, Prompts.of(tiny.CLASSES), folder / "bundle", int8=options, say=lambda _: None)
    return folder / "bundle"
