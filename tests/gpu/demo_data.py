"""The demo's timelines with made-up features and a text tower of the wanted size, and the options to train on it."""

import json
from pathlib import Path

import numpy as np

from stale_bench.engines.published import vit_b_32
from stale_model.demo.demo_classes import SPLITS
from stale_model.demo.demo_tokenizer import END
from stale_model.demo.demo_towers import DemoTowers
from stale_model.demo.timelines import DemoVideo, draw_timelines
from stale_model.demo.tower_files import text_tower_files
from stale_model.training.train_request import TrainRequest
from stale_model.training.training_config import TrainingConfig
from tests.gpu.gpu_request import GpuRequest
from tests.gpu.made_up import make_features

CHANNELS = 512
"""Width of the features, that of CLIP ViT-B's."""
_SNIPPETS_PER_SECOND = 4


def write_data(request: GpuRequest) -> Path:
    """The folder of annotations, features and a text tower; made once for all sections."""
    folder = request.workspace / "data"
    if not folder.exists():
        for name in ("clip", "features"):
            (folder / name).mkdir(parents=True)
        timelines = {
            "training": draw_timelines("training", request.sizes.videos, 0),
            "validation": draw_timelines("validation", request.sizes.validation_videos, 0),
        }
        database = {video.name: video.entry(subset) for subset, drawn in timelines.items() for video in drawn}
        (folder / "annotations.json").write_text(json.dumps({"database": database}))
        for seed, video in enumerate(video for drawn in timelines.values() for video in drawn):
            _write_features(folder / "features", video, seed)
        towers = DemoTowers.draw(SPLITS["all"], seed=0, channels=CHANNELS)
        for name, content in text_tower_files(towers).items():
            (folder / "clip" / name).write_bytes(content)
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


def _write_features(folder: Path, video: DemoVideo, seed: int) -> None:
    snippets = round(video.duration_s * _SNIPPETS_PER_SECOND)
    features = make_features(1, snippets, CHANNELS, seed)[0]  # (snippets, C)
    np.save(folder / f"v_{video.name}.npy", features.numpy().astype(np.float16))


def _write_large_tower(clip: Path) -> None:
    """Replace the demo's tower by one of the size of CLIP ViT-B/32 that starts with random weights."""
    (clip / "model.safetensors").unlink()
    vocabulary = json.loads((clip / "tokenizer.json").read_text())["added_tokens"]
    end = next(token["id"] for token in vocabulary if token["content"] == END)
    text = vit_b_32(CHANNELS, end).to_dict()
    config = {"model_type": "clip", "projection_dim": CHANNELS, "text_config": text, "vision_config": {}}
    (clip / "config.json").write_text(json.dumps(config))
