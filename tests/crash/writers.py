"""Everything that writes files in this project, with the folder's states before, after and in between."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stale_export.bundle_writer import write_bundle
from stale_model.checkpoints.loading import load_plain
from stale_model.training.epoch_metrics import Epoch
from stale_model.training.training_files import BEST, CURVES, LAST, METRICS, complete, save_epoch
from stale_runtime.bundle.manifest import FORMAT_VERSION, Manifest, Source, TextEncoderSpec
from stale_runtime.inference.prompt_cache import PromptCache
from stale_runtime.system.files import write_whole
from tests.crash.faults import Snapshot, files

MANIFEST = Manifest(
    format_version=FORMAT_VERSION,
    versions={},
    source=Source(format="original", sha256="0" * 64, size=1),
    channels=16,
    heads=2,
    temporal_scale=16,
    decoder="standard",
    text_encoder=TextEncoderSpec(clip="clip", context_length=77, pad_token=54, prefix=(53,), prompt_template="{}"),
    graphs={},
    parity=(),
    quantization=(),
    files={},
)
TEXTS = ("long jump", "archery", "polo")
WIDTH = 500


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Something that writes into a folder."""

    name: str
    before: Callable[[Path], object]
    """Brings an empty folder into the state before."""
    write: Callable[[Path], object]
    """Brings it from there, or from where a killed run left it, into the state after."""
    order: tuple[str, ...] = ()
    """Names of files in the order in which they are replaced; empty if all are replaced at once."""

    def states(self, before: Snapshot, after: Snapshot) -> Iterator[Snapshot]:
        """Every state that a killed writer may leave, as contents by file name."""
        old, new = files(before), files(after)
        yield dict(old)
        for wanted in self.order:
            for name, data in new.items():
                if os.path.basename(name) == wanted:
                    old[name] = data
            yield dict(old)
        yield new


def write_file(folder: Path) -> None:
    """Write a file as ``-o`` does."""
    write_whole(folder / "out.json", b"a result\n" * 1000)


def write_new_bundle(folder: Path) -> None:
    """Write a bundle as ``stale-export`` does in the end."""
    write_bundle(folder / "bundle", MANIFEST, {"localizer.onnx": b"new" * 5000, "prompts.npz": b"new"})


def write_old_bundle(folder: Path) -> None:
    """Write another bundle, with a file that the new one does not have."""
    write_bundle(folder / "bundle", MANIFEST, {"localizer.onnx": b"old" * 5000, "old.npz": b"old"})


def open_cache(folder: Path) -> PromptCache:
    """A prompt cache in a folder."""
    return PromptCache(folder / "cache", encoder="e" * 64, width=WIDTH)


def fill_cache(folder: Path, value: float = 1.0) -> None:
    """Write to an empty cache, as the first ``stale-run`` does."""
    open_cache(folder).put(TEXTS, np.full((len(TEXTS), WIDTH), value, np.float32))


def cached_names() -> tuple[str, ...]:
    """Names of the cache's files, in the order in which they are written."""
    empty = open_cache(Path())
    return tuple(empty._path(text).name for text in TEXTS)


def make_history(epochs: int) -> list[Epoch]:
    """A training that gets better with every epoch."""
    return [
        Epoch(
            epoch=n + 1,
            total=1.0 / (n + 1),
            classification=0.5,
            masks=0.25,
            foreground=0.125,
            consistency=0.0625,
            validation_map=0.1 * n,
            seconds=1.5,
            peak_memory_mb=100.0,
            gpu_percent=None,
        )
        for n in range(epochs)
    ]


def save_training(folder: Path, epochs: int) -> None:
    """Save a training as ``stale-train`` does after an epoch."""
    content = {
        "format_version": 1,
        "training": {"epochs_done": epochs},
        "state_dict": {"weight": torch.full((2000,), float(epochs)), "bias": torch.arange(3.0)},
    }
    save_epoch(folder, content, {"optimizer": {"step": torch.tensor(epochs)}}, make_history(epochs))


def continue_training(folder: Path) -> None:
    """Save the second epoch as ``stale-train`` does, from where a killed run left it."""
    saved = load_plain(folder / LAST).content if (folder / LAST).exists() else None
    if saved is not None and saved["training"]["epochs_done"] == 2:
        complete(folder, saved)
    else:
        save_training(folder, 2)


WRITERS = (
    Writer(name="-o", before=lambda folder: write_whole(folder / "out.json", b"old"), write=write_file),
    Writer(name="-o, first", before=lambda _: None, write=write_file),
    Writer(name="bundle", before=write_old_bundle, write=write_new_bundle),
    Writer(name="bundle, first", before=lambda _: None, write=write_new_bundle),
    Writer(name="cache", before=lambda folder: fill_cache(folder, 0.0), write=fill_cache, order=cached_names()),
    Writer(name="cache, first", before=lambda _: None, write=fill_cache, order=cached_names()),
    Writer(
        name="training",
        before=lambda folder: save_training(folder, 1),
        write=continue_training,
        order=(LAST, BEST, METRICS, CURVES),
    ),
    Writer(name="training, first", before=lambda _: None, write=continue_training, order=(LAST, BEST, METRICS, CURVES)),
)
