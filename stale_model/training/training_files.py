"""The files of a training: ``last.pth``, and those that are derived from it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from stale_model.checkpoints.clip import ClipParts
from stale_model.checkpoints.loading import load_plain, quote
from stale_model.checkpoints.own_checkpoint import StaleWithText, checkpoint_bytes, refuse_misfits, refuse_other_kinds
from stale_model.training.epoch_metrics import Epoch, best_epoch, curves_png, metrics_csv
from stale_runtime.errors import CheckpointError
from stale_runtime.system.files import write_together
from stale_runtime.system.json_dataclasses import build

Plan = tuple[tuple[int, int], ...]
"""Pairs: how many epochs were done, and the ``--epochs`` that hold from there on. The first pair is that of the start,
(0, N); a resumed training that gets other ``--epochs`` adds one."""
BEST, LAST, METRICS, CURVES = "best.pth", "last.pth", "metrics.csv", "curves.png"
_KEPT = {"format_version", "training", "state_dict", "state", "history"}


def save_epoch(folder: Path, content: Mapping[str, Any], state: Mapping[str, Any], history: Sequence[Epoch]) -> None:
    """Write ``last.pth`` and the files derived from it; all are on the disk before the first one gets its name.

    A run that is killed between two renames leaves the new ``last.pth`` beside older files; ``complete`` repairs that.

    Args:
        folder: an existing one.
        content: content of the checkpoint.
        state: what a resumed training needs besides it.
        history: all epochs.

    Raises:
        OSError: a file cannot be written; the earlier ones are kept.
    """
    rows = [asdict(epoch) for epoch in history]

    def files() -> Iterator[tuple[str, bytes]]:
        yield LAST, checkpoint_bytes({**content, "state": state, "history": rows})
        yield from _derived_files(content, history)

    write_together(folder, files())


def complete(folder: Path, saved: Mapping[str, Any]) -> None:
    """Write the files derived from ``last.pth`` again.

    Args:
        folder: an existing one.
        saved: the content of ``last.pth``.

    Raises:
        ValueError: its history is damaged.
        OSError: a file cannot be written; the earlier ones are kept.
    """
    content = {name: value for name, value in saved.items() if name not in ("state", "history")}
    write_together(folder, _derived_files(content, read_history(saved)))


def read_history(saved: Mapping[str, Any]) -> list[Epoch]:
    """The epochs in the content of ``last.pth``; at least one.

    Raises:
        ValueError: they are damaged, or are not epochs at all.
    """
    rows, names = saved["history"], {field.name for field in fields(Epoch)}
    if not isinstance(rows, list) or any(not isinstance(row, dict) or row.keys() != names for row in rows):
        raise ValueError("no rows of epochs")
    history = [build(Epoch, row) for row in rows]
    if not history or [epoch.epoch for epoch in history] != list(range(1, len(history) + 1)):
        raise ValueError("epochs are missing")
    return history


def read_plan(saved: Mapping[str, Any]) -> Plan:
    """The numbers of epochs that a training was given, in the content of ``last.pth``.

    Raises:
        ValueError: they are damaged.
    """
    training = saved["training"]
    rows = training.get("plan")
    if rows is None:  # written before it could change
        rows = [[0, training["config"].get("epochs")]]
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 2 for row in rows):
        raise ValueError("no plan of the epochs")
    plan = tuple((done, epochs) for done, epochs in rows)
    if not plan or not all(type(number) is int and number >= 0 for row in plan for number in row):
        raise ValueError("no plan of the epochs")
    return plan


def _derived_files(content: Mapping[str, Any], history: Sequence[Epoch]) -> Iterator[tuple[str, bytes]]:
    if best_epoch(history) is history[-1]:
        yield BEST, checkpoint_bytes(content)
    yield METRICS, metrics_csv(history)
    yield CURVES, curves_png(history)


def read_last(path: Path, model: StaleWithText, clip: ClipParts, description: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``last.pth``.

    Args:
        path: path of the file.
        model: the model that its weights have to fit.
        clip: configuration of the text tower.
        description: description of the training that it has to belong to.

    Raises:
        CheckpointError: it is missing or damaged, or belongs to another training.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: nothing to resume; train without --resume")
    content = load_plain(path).content
    if not isinstance(content, dict) or not content.keys() >= _KEPT:
        raise CheckpointError(f"{path}: not a checkpoint to resume from; train without --resume, in another folder")
    refuse_other_kinds(content, path)
    for key, value in description.items():
        if difference := _difference(_without_epochs(content["training"].get(key)), _without_epochs(value), key):
            raise CheckpointError(f"{path}: {difference}; give the options that it was started with, or another folder")
    refuse_misfits(model.network.config, clip.text_config, content["state_dict"], path)
    try:
        read_history(content)
        read_plan(content)
    except ValueError as problem:
        raise CheckpointError(
            f"{path}: its history is damaged, or was written by another version of stale-edge ({problem}); train "
            "without --resume, in another folder"
        ) from problem
    return content


def _without_epochs(value: object) -> object:
    """A value without the number of epochs, which a training that is resumed may change."""
    if not isinstance(value, dict):
        return value
    return {name: part for name, part in value.items() if name != "epochs"}


def _difference(before: object, now: object, name: str) -> str | None:
    """The first difference between two plain values, in words; None if there is none."""
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        return next(filter(None, (_difference(before[key], now[key], key) for key in now)), None)
    if type(before) is type(now) and before == now:  # comparing a tensor from a file would not give a truth value
        return None
    if isinstance(now, list) or isinstance(before, list):
        return f"started with other {name.replace('_', ' ')}"
    return f"started with {name.replace('_', ' ')} {quote(before)}, now {quote(now)}"
