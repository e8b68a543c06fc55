import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from stale_model import read_checkpoint
from stale_model.clip import read_clip_parts
from stale_model.dataset import select_videos
from stale_model.loading import load_plain
from stale_model.own_checkpoint import StaleWithText
from stale_model.trainer import BEST, CURVES, LAST, METRICS, Epoch, TrainingData, train
from stale_model.training import TrainingConfig, epoch_batches
from stale_runtime.errors import CheckpointError
from stale_runtime.ground_truth import read_ground_truth
from tests import tiny

CONFIG = TrainingConfig(epochs=3, batch_size=4, learning_rate=1e-2, length=tiny.LENGTH)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of features and annotations of ten training and three validation videos."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "features").mkdir()
    generator = np.random.default_rng(0)
    database = {}
    for n in range(13):
        np.save(folder / "features" / f"v_{n}.npy", generator.standard_normal((30, tiny.CHANNELS)).astype(np.float32))
        label, start = tiny.CLASSES[n % len(tiny.CLASSES)], float(n)
        annotations = [{"label": label, "segment": [start, start + 20]}]
        subset = "training" if n < 10 else "validation"
        database[str(n)] = {"duration": 60.0, "subset": subset, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    return folder


@pytest.fixture(autouse=True)
def own_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng():
        yield


def run(
    data: Path,
    clip_folder: Path,
    folder: Path,
    *,
    config: TrainingConfig = CONFIG,
    resume: bool = False,
    stop_after: int | None = None,
) -> list[Epoch]:
    """Train a tiny network; ``stop_after`` interrupts after so many epochs."""
    folder.mkdir(exist_ok=True)
    truth = {name: read_ground_truth(data / "annotations.json", subset=name) for name in ("training", "validation")}
    samples = {
        name: select_videos(known, data / "features", tiny.CLASSES, channels=tiny.CHANNELS).samples
        for name, known in truth.items()
    }
    torch.manual_seed(config.seed)
    model = StaleWithText(tiny.make_network(), tiny.make_tower(clip_folder))

    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == stop_after:
            raise KeyboardInterrupt

    return train(
        Fabric(accelerator="cpu", devices=1),
        model,
        read_clip_parts(str(clip_folder)),
        TrainingData(train=samples["training"], validation=samples["validation"], classes=tiny.CLASSES, split="closed"),
        config,
        folder,
        resume=resume,
        on_epoch=on_epoch,
        progress=lambda done, of, loss: None,
    )


def test_loss_falls_and_the_files_are_there(data: Path, clip_folder: Path, tmp_path: Path) -> None:
    history = run(data, clip_folder, tmp_path / "out")
    assert history[-1].total < history[0].total
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([BEST, LAST, METRICS, CURVES])
    rows = list(csv.DictReader((tmp_path / "out" / METRICS).read_text().splitlines()))
    assert [float(row["total"]) for row in rows] == [epoch.total for epoch in history]
    assert (tmp_path / "out" / CURVES).read_bytes().startswith(b"\x89PNG")


def test_a_resumed_training_equals_an_unbroken_one(data: Path, clip_folder: Path, tmp_path: Path) -> None:
    unbroken = run(data, clip_folder, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(data, clip_folder, tmp_path / "b", stop_after=2)
    resumed = run(data, clip_folder, tmp_path / "b", resume=True)
    assert [epoch.total for epoch in resumed] == [epoch.total for epoch in unbroken]
    assert [epoch.validation_map for epoch in resumed] == [epoch.validation_map for epoch in unbroken]
    states = [load_plain(tmp_path / name / LAST).content["state_dict"] for name in ("a", "b")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_another_seed_is_another_training(data: Path, clip_folder: Path, tmp_path: Path) -> None:
    first = run(data, clip_folder, tmp_path / "a", config=CONFIG)
    second = run(data, clip_folder, tmp_path / "b", config=TrainingConfig(**{**vars(CONFIG), "seed": 1}))
    assert first[-1].total != second[-1].total


def test_resuming_needs_the_same_training(data: Path, clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        run(data, clip_folder, tmp_path / "a", resume=True)
    run(data, clip_folder, tmp_path / "a")
    longer = TrainingConfig(**{**vars(CONFIG), "learning_rate": 1e-3})
    with pytest.raises(CheckpointError, match="another config"):
        run(data, clip_folder, tmp_path / "a", config=longer, resume=True)


def test_a_frozen_text_tower_stays_as_it_is(data: Path, clip_folder: Path, tmp_path: Path) -> None:
    before = tiny.make_tower(clip_folder).state_dict()
    run(data, clip_folder, tmp_path / "frozen", config=TrainingConfig(**{**vars(CONFIG), "freeze_text": True}))
    run(data, clip_folder, tmp_path / "trained")
    frozen = read_checkpoint(tmp_path / "frozen" / BEST, "").tower.state_dict()
    trained = read_checkpoint(tmp_path / "trained" / BEST, "").tower.state_dict()
    assert all(torch.equal(before[name], frozen[name]) for name in before)
    assert not all(torch.equal(before[name], trained[name]) for name in before)


def test_the_checkpoint_is_plain_and_complete(data: Path, clip_folder: Path, tmp_path: Path) -> None:
    run(data, clip_folder, tmp_path / "out")
    content = torch.load(tmp_path / "out" / BEST, weights_only=True)
    assert {"format_version", "config", "state_dict", "text_config", "tokenizer_json", "classes"} <= content.keys()
    assert content["training"]["split"] == "closed"
    assert content["training"]["videos"] == sorted(map(str, range(10)))
    trained = read_checkpoint(tmp_path / "out" / BEST, "needs no clip")
    assert trained.classes == tiny.CLASSES
    assert trained.format == "stale-edge"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": 99}, "format_version 99"),
        ({"config": {"channels": -1}}, "channels"),
        ({"config": {"nonsense": 1}}, "nonsense"),
        ({"classes": "polo"}, "'classes'"),
        ({"state_dict": {}}, "layers"),
    ],
)
def test_a_damaged_checkpoint_of_ours_is_named(
    data: Path, clip_folder: Path, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    run(data, clip_folder, tmp_path / "out", config=TrainingConfig(**{**vars(CONFIG), "epochs": 1}))
    path = tmp_path / "changed.pth"
    torch.save({**load_plain(tmp_path / "out" / BEST).content, **change}, path)
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(path, "")


def test_every_video_is_seen_once_an_epoch_in_an_order_of_its_own() -> None:
    batches = epoch_batches(70, 32, seed=0, epoch=0)
    assert sorted(n for batch in batches for n in batch) == list(range(70))
    assert [len(batch) for batch in batches] == [32, 38]
    assert batches == epoch_batches(70, 32, seed=0, epoch=0)
    assert batches != epoch_batches(70, 32, seed=0, epoch=1)
    assert batches != epoch_batches(70, 32, seed=1, epoch=0)


def test_the_command_names_what_is_wrong_on_one_line(data: Path, clip_folder: Path, tmp_path: Path) -> None:
    def failing(*arguments: str) -> tuple[int, str]:
        command = [str(Path(sys.executable).parent / "stale-train"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stderr.strip().splitlines()[-1]

    annotations = ["--annotations", str(data / "annotations.json")]
    features = ["--features", str(data / "features")]
    (tmp_path / "empty").mkdir()
    code, line = failing(*annotations, "--features", "empty", "--split", "closed", "--clip", str(clip_folder))
    assert (code, "expected files such as" in line) == (3, True), line
    code, line = failing(*annotations, *features, "--split", "closed", "--clip", str(clip_folder))
    assert (code, "expected (snippets, 512)" in line) == (3, True), line
    code, line = failing(*annotations, *features, "--clip", str(clip_folder))
    assert (code, "no --split" in line) == (2, True), line
