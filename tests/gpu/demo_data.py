"""The demo's data set with a text tower of the wanted size, and the options to train on it."""

import json
from pathlib import Path

from stale_bench.engines.published import vit_b_32
from stale_model.demo.demo_clip import CHANNELS, END
from stale_model.demo.demo_command import write_demo
from stale_model.training.train_request import TrainRequest
from stale_model.training.training_config import TrainingConfig
from tests.gpu.gpu_request import GpuRequest


def write_data(request: GpuRequest) -> Path:
    """The folder of the demo's data; made once for all sections."""
    folder = request.workspace / "data"
    if not folder.exists():
        write_demo(folder, videos=request.sizes.videos, validation_videos=request.sizes.validation_videos)
        if request.sizes.full_tower:
            _write_large_tower(folder / "clip")
    return folder


def make_train_request(request: GpuRequest, *, device: str, precision: str, output: Path) -> TrainRequest:
    """A training of a few epochs on this data, as ``stale-train`` would be asked for it."""
    data, sizes = write_data(request), request.sizes
    return TrainRequest(
        annotations=data / "annotations.json",
        features=data / "features",
        split="closed",
        clip=str(data / "clip"),
        config=TrainingConfig(epochs=sizes.epochs, batch_size=sizes.batch_size, length=sizes.length),
        device=device,
        precision=precision,
        output=output,
    )


def to_options(request: TrainRequest) -> list[str]:
    """The same request as it is typed behind ``stale-train``."""
    options = {
        "--annotations": request.annotations,
        "--features": request.features,
        "--split": request.split,
        "--clip": request.clip,
        "--epochs": request.config.epochs,
        "--batch-size": request.config.batch_size,
        "--length": request.config.length,
        "--device": request.device,
        "--precision": request.precision,
        "-o": request.output,
    }
    return [text for option, value in options.items() for text in (option, str(value))]


def _write_large_tower(clip: Path) -> None:
    """Replace the demo's tower by one of the size of CLIP ViT-B/32 that starts with random weights."""
    (clip / "model.safetensors").unlink()
    vocabulary = json.loads((clip / "tokenizer.json").read_text())["added_tokens"]
    end = next(token["id"] for token in vocabulary if token["content"] == END)
    text = vit_b_32(CHANNELS, end).to_dict()
    config = {"model_type": "clip", "projection_dim": CHANNELS, "text_config": text, "vision_config": {}}
    (clip / "config.json").write_text(json.dumps(config))
