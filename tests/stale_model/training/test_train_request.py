"""What ``stale-train`` is asked to do, checked without PyTorch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stale_model.training.train_request import TrainRequest
from stale_model.training.training_config import LossWeights, TrainingConfig


def request(**changes: Any) -> TrainRequest:
    return TrainRequest(**{"annotations": Path("a.json"), "features": Path("f"), "split": "closed", **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"split": None}, "no --split; give closed"),
        ({"fraction": 0.0}, "fraction 0"),
        ({"fraction": float("nan")}, "fraction nan"),
        ({"all_training": True, "video_info": Path("i.csv")}, "--all-training with --video-info"),
        ({"all_training": True, "train_subset": "zzz"}, "--all-training with --train-subset zzz: .*; give one"),
        ({"all_training": True, "validation_subset": "zzz"}, "--all-training with --validation-subset zzz: .*; give"),
        ({"train_subset": "validation"}, "are the same videos; give --validation-subset, such as test"),
        ({"train_subset": "val"}, "--train-subset val and --validation-subset validation are the same videos"),
        ({"train_subset": "Testing", "validation_subset": "test"}, "the same videos; .*such as validation"),
        ({"train_ids": Path("ids.txt"), "fraction": 0.5}, "--train-ids with --fraction 0.5: the list is the sample"),
        ({"seeds": 0}, "seeds 0"),
        ({"threads": 0}, "threads 0"),
        ({"device": "tpu"}, "device 'tpu', expected one of auto, cpu, cuda"),
        ({"precision": "8"}, "precision '8', expected one of auto, 32, bf16, 16"),
        ({"precision": "16", "device": "cpu"}, "only a GPU computes in it"),
    ],
)
def test_impossible_requests_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        request(**changes)


def test_other_subsets_may_be_trained_on_and_validated_on() -> None:
    assert request(train_subset="validation", validation_subset="test").validation_subset == "test"
    assert request(train_subset="val_1", validation_subset="val_2").train_subset == "val_1"
    assert request(all_training=True).all_training


def test_one_training_is_the_request_itself() -> None:
    one = request()
    assert one.runs() == (one,)


def test_several_trainings_count_seeds_up_in_folders_of_their_own() -> None:
    several = request(seeds=3, subset_seed=7, config=TrainingConfig(seed=2, epochs=5), output=Path("out"))
    found = [(run.config.seed, run.subset_seed, run.output, run.config.epochs) for run in several.runs()]
    assert found == [(n + 2, n + 7, Path(f"out/seed_{n + 2}"), 5) for n in range(3)]


@pytest.mark.parametrize(
    "changes", [{"epochs": 0}, {"batch_size": 0}, {"length": 0}, {"learning_rate": 0.0}, {"weight_decay": 1.0}]
)
def test_impossible_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        TrainingConfig(**changes)


@pytest.mark.parametrize(
    ("seen", "unseen", "is_half"),
    [
        *((150, 50, False), (100, 100, True), (200, 0, False)),  # ActivityNet's, as published
        *((15, 5, False), (10, 10, True), (20, 0, False)),  # THUMOS14's
        *((1, 1, True), (1, 0, False), (1, 199, True), (5, 3, False), (62, 38, True), (63, 37, False)),
    ],
)
def test_the_number_of_unseen_classes_decides_the_weights(seen: int, unseen: int, is_half: bool) -> None:
    half = LossWeights(classification=0.1, masks=1, foreground=0.1, consistency=0.1)
    assert LossWeights.for_split(seen=seen, unseen=unseen) == (half if is_half else LossWeights())


def test_options_are_read_without_torch() -> None:
    code = (
        "import stale_model.train_command, sys; print({'torch', 'transformers', 'lightning_fabric'} & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
