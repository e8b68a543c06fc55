"""What writes files here: each with a state before, a state after, and what may be seen in between."""

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
    """Brings it from there, or from wherever a killed run left it, into the state after."""
    order: tuple[str, ...] = ()
    """Names of files that are replaced one after the other; none if all of them are at once."""

    def states(self, before: Snapshot, after: Snapshot) -> Iterator[Snapshot]:
        """Every content by file that may be seen once the writer was killed."""
        old, new = files(before), files(after)
        yield dict(old)
        for wanted in self.order:
            for name, data in new.items():
                if os.path.basename(name) == wanted:
                    old[name] = data
            yield dict(old)
        yield new


def write_file(folder: Path) -> None:
    """What ``-o`` does."""
    write_whole(folder / "out.json", b"a result\n" * 1000)


def write_new_bundle(folder: Path) -> None:
    """What ``stale-export`` does in the end."""
    write_bundle(folder / "bundle", MANIFEST, {"localizer.onnx": b"new" * 5000, "prompts.npz": b"new"})


def write_old_bundle(folder: Path) -> None:
    """Another one, with a file that the new one has not."""
    write_bundle(folder / "bundle", MANIFEST, {"localizer.onnx": b"old" * 5000, "old.npz": b"old"})


def cache(folder: Path) -> PromptCache:
    """A cache in a folder."""
    return PromptCache(folder / "cache", encoder="e" * 64, width=WIDTH)


def fill_cache(folder: Path, value: float = 1.0) -> None:
    """What a cold ``stale-run`` does."""
    cache(folder).put(TEXTS, np.full((len(TEXTS), WIDTH), value, np.float32))


def cached_names() -> tuple[str, ...]:
    """The cache's files, in the order that they are written in."""
    empty = cache(Path())
    return tuple(empty._path(text).name for text in TEXTS)


def history(epochs: int) -> list[Epoch]:
    """A training that gets better, up to its last epoch."""
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


def save(folder: Path, epochs: int) -> None:
    """What ``stale-train`` does after an epoch."""
    content = {
        "format_version": 1,
        "training": {"epochs_done": epochs},
        "state_dict": {"weight": torch.full((2000,), float(epochs)), "bias": torch.arange(3.0)},
    }
    save_epoch(folder, content, {"optimizer": {"step": torch.tensor(epochs)}}, history(epochs))


def train_on(folder: Path) -> None:
    """What ``stale-train`` does with the second epoch, from wherever a killed run left it."""
    saved = load_plain(folder / LAST).content if (folder / LAST).exists() else None
    if saved is not None and saved["training"]["epochs_done"] == 2:
        complete(folder, saved)
    else:
        save(folder, 2)


WRITERS = (
    Writer(name="-o", before=lambda folder: write_whole(folder / "out.json", b"old"), write=write_file),
    Writer(name="-o, first", before=lambda folder: None, write=write_file),
    Writer(name="bundle", before=write_old_bundle, write=write_new_bundle),
    Writer(name="bundle, first", before=lambda folder: None, write=write_new_bundle),
    Writer(name="cache", before=lambda folder: fill_cache(folder, 0.0), write=fill_cache, order=cached_names()),
    Writer(name="cache, first", before=lambda folder: None, write=fill_cache, order=cached_names()),
    Writer(
        name="training",
        before=lambda folder: save(folder, 1),
        write=train_on,
        order=(LAST, BEST, METRICS, CURVES),
    ),
    Writer(name="training, first", before=lambda folder: None, write=train_on, order=(LAST, BEST, METRICS, CURVES)),
)
