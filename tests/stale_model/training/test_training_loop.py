import csv
import errno
import os
import pickle
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from stale_model import read_checkpoint
from stale_model.checkpoints.clip import read_clip_parts
from stale_model.checkpoints.loading import load_plain
from stale_model.checkpoints.own_checkpoint import NO_FEATURES, StaleWithText, TrainedFeatures
from stale_model.data.dataset import StaleDataset, collate, select_videos
from stale_model.data.targets import Targets
from stale_model.training.epoch_metrics import Epoch
from stale_model.training.epoch_steps import _with_short_errors, collate_arrays, epoch_batches
from stale_model.training.training_config import TrainingConfig
from stale_model.training.training_files import BEST, CURVES, LAST, METRICS, read_plan
from stale_model.training.training_loop import TrainingData, train
from stale_runtime.errors import BackendError, CheckpointError
from stale_runtime.evaluation.ground_truth import read_ground_truth
from stale_runtime.inputs.recipe import clip_recipe
from tests import tiny
from tests.runtime.inputs.drawn import draw_statistics

CONFIG = TrainingConfig(epochs=3, batch_size=4, learning_rate=1e-2, length=tiny.LENGTH)

FEATURES = TrainedFeatures(clip_recipe("mine", snippet_s=0.2), draw_statistics(channels=tiny.CHANNELS))


@pytest.fixture(autouse=True)
def own_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng():
        yield


def run(
    training_data: Path,
    clip_folder: Path,
    folder: Path,
    *,
    config: TrainingConfig = CONFIG,
    resume: bool = False,
    stop_after: int | None = None,
    features: TrainedFeatures = FEATURES,
) -> list[Epoch]:
    """Train a tiny network; ``stop_after`` interrupts after so many epochs."""
    folder.mkdir(exist_ok=True)
    truth = {
        name: read_ground_truth(training_data / "annotations.json", subset=name) for name in ("training", "validation")
    }
    samples = {
        name: select_videos(known, training_data / "features", tiny.CLASSES, channels=tiny.CHANNELS).samples
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
        TrainingData(
            train=samples["training"],
            validation=samples["validation"],
            classes=tiny.CLASSES,
            split="closed",
            features=features,
        ),
        config,
        folder,
        resume=resume,
        on_start=lambda _epochs: None,
        on_epoch=on_epoch,
        progress=lambda _done, _of, _loss: None,
    )


def test_loss_falls_and_the_files_are_there(training_data: Path, clip_folder: Path, tmp_path: Path) -> None:
    history = run(training_data, clip_folder, tmp_path / "out")
    assert history[-1].total < history[0].total
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([BEST, LAST, METRICS, CURVES])
    rows = list(csv.DictReader((tmp_path / "out" / METRICS).read_text().splitlines()))
    assert [float(row["total"]) for row in rows] == [epoch.total for epoch in history]
    assert (tmp_path / "out" / CURVES).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("freeze_text", [False, True])
def test_a_resumed_training_equals_an_unbroken_one(
    training_data: Path, clip_folder: Path, tmp_path: Path, freeze_text: bool
) -> None:
    config = TrainingConfig(**{**vars(CONFIG), "freeze_text": freeze_text})
    unbroken = run(training_data, clip_folder, tmp_path / "a", config=config)
    with pytest.raises(KeyboardInterrupt):
        run(training_data, clip_folder, tmp_path / "b", config=config, stop_after=2)
    resumed = run(training_data, clip_folder, tmp_path / "b", config=config, resume=True)
    assert [epoch.total for epoch in resumed] == [epoch.total for epoch in unbroken]
    assert [epoch.validation_map for epoch in resumed] == [epoch.validation_map for epoch in unbroken]
    states = [load_plain(tmp_path / name / LAST).content["state_dict"] for name in ("a", "b")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_a_run_killed_while_it_saved_did_not_get_to_is_made_up_for(
    training_data: Path, clip_folder: Path, tmp_path: Path
) -> None:
    config = TrainingConfig(**{**vars(CONFIG), "epochs": 1})
    run(training_data, clip_folder, tmp_path, config=config)
    rest = {name: (tmp_path / name).read_bytes() for name in (METRICS, CURVES)}
    best = load_plain(tmp_path / BEST).content
    for name in (BEST, METRICS, CURVES):
        (tmp_path / name).unlink()
    run(training_data, clip_folder, tmp_path, config=config, resume=True)
    assert {name: (tmp_path / name).read_bytes() for name in rest} == rest
    again = load_plain(tmp_path / BEST).content
    before, after = (content.pop("state_dict") for content in (best, again))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again == best


def test_another_seed_is_another_training(training_data: Path, clip_folder: Path, tmp_path: Path) -> None:
    first = run(training_data, clip_folder, tmp_path / "a", config=CONFIG)
    second = run(training_data, clip_folder, tmp_path / "b", config=TrainingConfig(**{**vars(CONFIG), "seed": 1}))
    assert first[-1].total != second[-1].total


def test_resuming_needs_the_same_training(training_data: Path, clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        run(training_data, clip_folder, tmp_path / "a", resume=True)
    run(training_data, clip_folder, tmp_path / "a")
    longer = TrainingConfig(**{**vars(CONFIG), "learning_rate": 1e-3})
    with pytest.raises(CheckpointError, match=r"learning rate 0\.01, now 0\.001"):
        run(training_data, clip_folder, tmp_path / "a", config=longer, resume=True)


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    return [nested(depth - 1)] if depth else []


def change_rows(**changes: object) -> Callable[[Any], object]:
    return lambda saved: [row.update(changes) for row in saved["history"]]


def change_moment(**changes: object) -> Callable[[Any], object]:
    return lambda saved: saved["state"]["optimizer"]["state"][3].update(changes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda saved: saved.pop("history"), "not a checkpoint to resume from"),
        (lambda saved: saved.pop("classes"), "no 'classes' of type list"),
        (lambda saved: saved.update(format_version=torch.tensor([1, 1])), "format_version tensor"),
        (lambda saved: saved.update(training=[1]), "no 'training' of type dict"),
        (lambda saved: saved.update(training=None), "no 'training' of type dict"),
        (lambda saved: saved["training"].update(seed=torch.tensor([0, 0])), "started with seed tensor"),
        (lambda saved: saved["training"].update(seed=torch.zeros(40, 40)), "started with seed tensor"),
        (lambda saved: saved["training"].update(videos=[torch.tensor([1, 1])] * 10), "started with other videos"),
        (lambda saved: saved["training"].update(split="\x1b[2J"), "started with split '"),
        (lambda saved: saved["training"]["config"].update(weights=nested(50)), "started with other weights"),
        (lambda saved: saved.update(state_dict=[1]), "no 'state_dict' of type dict"),
        (lambda saved: saved["state_dict"].update({"\x1b[2J": torch.zeros(2)}), "has unknown tensor '"),
        (lambda saved: saved.update(history=[]), "epochs are missing"),
        (lambda saved: saved.update(history=None), "no rows of epochs"),
        (lambda saved: saved.update(history=[1]), "no rows of epochs"),
        (lambda saved: saved.update(history=[{1: 2, "x": 3}]), "no rows of epochs"),
        (lambda saved: saved.update(history=saved["history"] * 5), "epochs are missing"),
        (change_rows(validation_map="x"), "validation_map is 'x'"),
        (change_rows(total=None), "total is 'None'"),
        (change_rows(seconds=torch.zeros(1)), "seconds is 'tensor"),
        (lambda saved: saved.update(state=None), "its optimizer belongs to other parameters"),
        (lambda saved: saved.update(state={}), "its optimizer belongs to other parameters"),
        (lambda saved: saved.update(state={"optimizer": [1]}), "its optimizer belongs to other parameters"),
        (lambda saved: saved["state"]["optimizer"].pop("state"), "its optimizer belongs to other parameters"),
        (lambda saved: saved["state"]["optimizer"]["state"].pop(3), "its optimizer belongs to other parameters"),
        (
            lambda saved: saved["state"]["optimizer"]["state"].update({3: 4}),
            "its optimizer belongs to other parameters",
        ),
        (change_moment(exp_avg=None), "its optimizer belongs to other parameters"),
        (change_moment(exp_avg=torch.zeros(3)), "its optimizer belongs to other parameters"),
        (change_moment(step="x"), "its optimizer belongs to other parameters"),
        (change_moment(step=torch.tensor(1)), "step of parameter 3 is torch.int64"),
        (change_moment(step=torch.tensor(float("nan"))), "step of parameter 3 contains NaN"),
    ],
)
def test_a_damaged_file_to_resume_from_is_named(
    training_data: Path, clip_folder: Path, tmp_path: Path, change: Callable[[Any], object], says: str
) -> None:
    config = TrainingConfig(**{**vars(CONFIG), "epochs": 1})
    run(training_data, clip_folder, tmp_path, config=config)
    saved = load_plain(tmp_path / LAST).content
    change(saved)
    torch.save(saved, tmp_path / LAST)
    with pytest.raises(CheckpointError, match=re.escape(says)) as caught:
        run(training_data, clip_folder, tmp_path, config=config, resume=True)
    assert str(caught.value).startswith(f"{tmp_path / LAST}: ")
    assert str(caught.value).isprintable()


def test_nothing_of_a_file_to_resume_from_is_written_again_but_its_weights(
    training_data: Path, clip_folder: Path, tmp_path: Path
) -> None:
    config = TrainingConfig(**{**vars(CONFIG), "epochs": 1})
    run(training_data, clip_folder, tmp_path, config=config)
    saved, best = (load_plain(tmp_path / name).content for name in (LAST, BEST))
    saved["state"]["optimizer"]["param_groups"] = nested(50)
    saved["training"]["more"] = saved["more"] = nested(50)
    torch.save(saved, tmp_path / LAST)
    run(training_data, clip_folder, tmp_path, config=config, resume=True)
    again = load_plain(tmp_path / BEST).content
    before, after = (content.pop("state_dict") for content in (best, again))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again == best


def test_a_frozen_text_tower_stays_as_it_is(training_data: Path, clip_folder: Path, tmp_path: Path) -> None:
    before = tiny.make_tower(clip_folder).state_dict()
    run(training_data, clip_folder, tmp_path / "frozen", config=TrainingConfig(**{**vars(CONFIG), "freeze_text": True}))
    run(training_data, clip_folder, tmp_path / "trained")
    frozen = read_checkpoint(tmp_path / "frozen" / BEST, "").tower.state_dict()
    trained = read_checkpoint(tmp_path / "trained" / BEST, "").tower.state_dict()
    assert all(torch.equal(before[name], frozen[name]) for name in before)
    assert not all(torch.equal(before[name], trained[name]) for name in before)


def test_the_checkpoint_is_plain_and_complete(training_data: Path, clip_folder: Path, tmp_path: Path) -> None:
    run(training_data, clip_folder, tmp_path / "out")
    content = torch.load(tmp_path / "out" / BEST, weights_only=True)
    assert {"format_version", "config", "state_dict", "text_config", "tokenizer_json", "classes"} <= content.keys()
    assert content["training"]["split"] == "closed"
    assert content["training"]["videos"] == sorted(map(str, range(10)))
    trained = read_checkpoint(tmp_path / "out" / BEST, "needs no clip")
    assert trained.classes == tiny.CLASSES
    assert trained.format == "stale-edge"
    assert trained.features == FEATURES


def test_a_training_is_resumed_with_the_recipe_that_it_began_with(
    training_data: Path, clip_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(training_data, clip_folder, tmp_path, stop_after=1)
    other = FEATURES._replace(recipe=clip_recipe("mine", snippet_s=0.5))
    with pytest.raises(CheckpointError, match=r"started with snippet s 0\.2, now 0\.5"):
        run(training_data, clip_folder, tmp_path, resume=True, features=other)
    with pytest.raises(CheckpointError, match=r"started with recipe .*, now None"):
        run(training_data, clip_folder, tmp_path, resume=True, features=NO_FEATURES)
    run(training_data, clip_folder, tmp_path, resume=True)
    assert read_checkpoint(tmp_path / BEST, "").features == FEATURES


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": 99}, "format_version 99"),
        ({"format_version": True}, "format_version True"),
        ({"format_version": torch.tensor([1, 1])}, "format_version tensor"),
        ({"config": {"channels": -1}}, "channels"),
        ({"config": {"nonsense": 1}}, "nonsense"),
        ({"config": {"channels": float("nan")}}, "channels"),
        ({"config": {"channels": 10**400}}, "channels"),
        ({"config": {"x" * 1000: "text"}}, "x{10}"),
        ({"text_config": {"hidden_size": 2**62}}, "hidden_size"),
        ({"text_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers"),
        ({"classes": "polo"}, "'classes'"),
        ({"classes": [3]}, "expected text"),
        ({"classes": ["\ud800"]}, "surrogates"),
        ({"tokenizer_json": "\udfff"}, "surrogates"),
        ({"state_dict": {"tower": 3}}, "tower in 'state_dict' is not a tensor"),
        ({"state_dict": {7: torch.zeros(3)}}, "7 in 'state_dict' is not a tensor"),
        ({"state_dict": {}}, "layers"),
        ({"text_config": {"eos_token_id": 2**70}}, "eos_token_id"),
    ],
)
def test_a_damaged_checkpoint_of_ours_is_named(
    training_data: Path, clip_folder: Path, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    run(training_data, clip_folder, tmp_path / "out", config=TrainingConfig(**{**vars(CONFIG), "epochs": 1}))
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


def test_processes_that_read_features_change_nothing(training_data: Path, clip_folder: Path, tmp_path: Path) -> None:
    alone, helped = (
        run(training_data, clip_folder, tmp_path / str(workers), config=replace(CONFIG, epochs=1, workers=workers))
        for workers in (0, 1)
    )
    assert [epoch.total for epoch in helped] == [epoch.total for epoch in alone]


def test_batches_need_no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which containers often have 64 MB. Tensors need it to get from one process to another."""

    def refuse(_storage: torch.UntypedStorage) -> None:
        raise RuntimeError("No space left on device")

    for name in ("_share_fd_cpu_", "_share_filename_cpu_"):
        monkeypatch.setattr(torch.UntypedStorage, name, refuse)
    video = (torch.ones(4, 2), Targets(torch.ones(4), torch.ones(3), torch.ones(4, 4), torch.ones(4)))
    with pytest.raises(RuntimeError, match="No space left"):
        ForkingPickler.dumps(collate([video, video]))
    sent = pickle.loads(ForkingPickler.dumps(collate_arrays([video, video])))
    assert [array.shape for array in sent] == [(2, 4, 2), (2, 4), (2, 3), (2, 4, 4), (2, 4)]


def test_processes_that_cannot_start_are_said_in_one_line(
    training_data: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("multiprocessing.Lock", refuse)
    says = r"^--workers 1: no process can be started \(/dev/shm: No space left on device\); give --workers 0, which"
    with pytest.raises(BackendError, match=says):
        run(training_data, clip_folder, tmp_path / "out", config=replace(CONFIG, workers=1))


def test_without_processes_an_error_of_the_system_is_not_blamed_on_them() -> None:
    def fail_after_one() -> Iterator[Any]:
        yield "a batch"
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(_with_short_errors(fail_after_one(), workers=0))


@pytest.mark.parametrize(
    "training",
    [{"config": {}}, {"config": {"epochs": "6"}}, {"plan": []}, {"plan": [[0]]}, {"plan": [[0, -1]]}, {"plan": 6}],
)
def test_a_damaged_plan_of_the_epochs_is_refused(training: dict[str, Any]) -> None:
    assert read_plan({"training": {"config": {"epochs": 6}}}) == ((0, 6),)
    with pytest.raises(ValueError, match="no plan of the epochs"):
        read_plan({"training": training})


def test_a_process_that_is_killed_ends_the_training_with_one_line(
    training_data: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_dataset: StaleDataset, _index: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(StaleDataset, "__getitem__", die)
    with pytest.raises(BackendError, match=r"^--workers 1: a process that reads features was killed, maybe to free"):
        run(training_data, clip_folder, tmp_path / "out", config=replace(CONFIG, workers=1))
