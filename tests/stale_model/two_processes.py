"""Train the tiny network in the processes that ``torchrun`` starts, print each epoch's losses, then run stale-train.

``python -m torch.distributed.run --nproc-per-node 2 -m tests.stale_model.two_processes DATA CLIP OUTPUT OPTION...``
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from stale_model.__main__ import main
from stale_model.checkpoints.clip import read_clip_parts
from stale_model.checkpoints.own_checkpoint import StaleWithText
from stale_model.data.dataset import select_videos
from stale_model.training.training_config import TrainingConfig
from stale_model.training.training_loop import TrainingData, train
from stale_runtime.evaluation.ground_truth import read_ground_truth
from tests import tiny


def train_tiny(data: Path, clip_folder: Path, output: Path) -> list[list[float]]:
    """Train without dropout, which each process draws for itself, and return the losses of each epoch."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto")
    fabric.launch()
    output.mkdir(exist_ok=True)
    truth = read_ground_truth(data / "annotations.json", subset="training")
    samples = select_videos(truth, data / "features", tiny.CLASSES, channels=tiny.CHANNELS).samples
    sizes = replace(tiny.CONFIG, attention_dropout=0, embedding_dropout=0, adaptation_dropout=0, foreground_dropout=0)
    torch.manual_seed(0)
    history = train(
        fabric,
        StaleWithText(tiny.make_network(config=sizes), tiny.make_tower(clip_folder)),
        read_clip_parts(str(clip_folder)),
        TrainingData(train=samples, validation=(), classes=tiny.CLASSES, split="closed"),
        # ten videos in batches of five: two processes take three and two
        TrainingConfig(epochs=4, batch_size=5, learning_rate=1e-3, length=tiny.LENGTH),
        output,
        resume=False,
        on_start=lambda _epochs: None,
        on_epoch=lambda _epoch: None,
        progress=lambda _done, _of, _loss: None,
    )
    return [[epoch.total, epoch.masks, epoch.foreground, epoch.consistency] for epoch in history]


if __name__ == "__main__":
    losses = train_tiny(*map(Path, sys.argv[1:4]))
    if os.environ["RANK"] == "0":
        print(json.dumps(losses), flush=True)
    sys.argv[1:4] = []
    main()
