"""The messages, progress and tables of ``stale-train``, and its ``summary.csv``."""

import csv
import io
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields

from tabulate import tabulate

from stale_model.data.dataset import Selection, VideoSample
from stale_model.data.splits import Split
from stale_model.training.epoch_metrics import Epoch
from stale_runtime.inputs.prompt_lists import describe_joined
from stale_runtime.terminal import console
from stale_runtime.terminal.progress import Progress

_HEADERS = ("epoch", "loss", "classes", "masks", "foreground", "consistency", "val. mAP %", "s", "peak MB", "GPU %")
_SUMMARY = (
    "seed",
    "videos",
    "taken from",
    "best epoch",
    "seen mAP %",
    "unseen mAP %",
    "s an epoch",
    "peak MB",
    "GPU %",
)
_FORMATS = ("", "", "", "", ".2f", ".2f", ".1f", ".0f", ".0f")


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Quality and cost of one training."""

    seed: int
    videos: int
    """Number of videos that it was trained on."""
    trained_on: str
    """What they were taken from: the name of a subset, or ``all videos`` if the annotations have none; and if they were
    restricted to a list, how many of its ids are among them, and the start of the SHA-256 of all its ids."""
    best_epoch: int
    seen_map: float | None
    """Average mAP on validation videos of the seen classes, in [0, 1], which chose the epoch; None without any."""
    unseen_map: float | None
    """Average mAP on validation videos of the unseen classes, in [0, 1]; None without any."""
    epoch_s: float
    """Mean time of an epoch."""
    peak_memory_mb: float
    gpu_percent: float | None


class Reporter:
    """Progress on stderr while an epoch runs, a row on stdout when it is done."""

    def __init__(self, name: str, epochs: int, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare to report a training.

        Args:
            name: the command's name.
            epochs: their number.
            quiet: print nothing, for all processes but one.
            clock: tells the time in seconds.
        """
        self._name = name
        self._epochs = epochs
        self._quiet = quiet
        self._clock = clock
        self._progress = Progress(name, clock=clock)
        self._started_s = clock()
        self._steps = 0
        self._row = 0
        self._epoch = 0

    def say(self, text: str) -> None:
        """Print a message on stderr."""
        if not self._quiet:
            console.note(self._name, text)

    def show_reading(self, samples: Sequence[VideoSample]) -> Iterable[VideoSample]:
        """The same videos; shows how many are read."""
        return self._watch(samples, "reading features")

    def show_validating(self, samples: Sequence[VideoSample]) -> Iterable[VideoSample]:
        """The same videos; shows how many are validated on."""
        return self._watch(samples, "validating")

    def _watch(self, samples: Sequence[VideoSample], label: str) -> Iterable[VideoSample]:
        if self._quiet:
            return samples
        return console.progress(samples, label=label, total=len(samples), clock=self._clock)

    def show_split(self, split: Split) -> None:
        """Warn of classes of a published split that the annotations lack, and note names whose words are joined."""
        if split.missing:
            missing = name_few(map(repr, split.missing), most=10)
            self.say(
                f"warning: split {split.name}: no annotation is of {len(split.missing)} of its classes: {missing}; "
                "they stay prompts, but no video is of them"
            )
        names = (*split.seen, *split.unseen)
        if (joined := describe_joined(names)) is not None:
            self.say(f"{joined[0]}, and are prompts as they are; give stale-run the same names, without --split-names")

    def show_selection(self, subset: str, selection: Selection, *, named: bool = False) -> None:
        """Print which videos were selected from a subset; with ``named``, also some ids of those left out."""
        self.say(f"{subset}: {selection}")
        for why, ids in selection.left_out.items() if named else ():
            self.say(f"left out {why}: {name_few(ids)}")
        for problem in selection.problems.values():
            self.say(f"left out: {problem}")

    def show_start(self, epoch: int) -> None:
        """Note that training starts, with this many epochs done before."""
        self._epoch = epoch
        self._started_s = self._clock()
        if not self._quiet and epoch < self._epochs:
            self._progress.show(f"epoch {epoch + 1}/{self._epochs}", part=epoch / self._epochs)

    def show_step(self, done: int, of: int, loss: float) -> None:
        """Show that a step is done."""
        self._steps += 1
        if self._quiet:
            return
        steps, all_steps = self._epoch * of + done, self._epochs * of
        self._progress.show(
            f"epoch {self._epoch + 1}/{self._epochs}, step {done}/{of}, loss {loss:.4f}",
            part=steps / all_steps,
            left_s=(self._clock() - self._started_s) / self._steps * (all_steps - steps),
        )

    def show_epoch(self, epoch: Epoch) -> None:
        """Print the row of an epoch that is done."""
        self._epoch = epoch.epoch
        row = (
            *(epoch.epoch, epoch.total, epoch.classification, epoch.masks, epoch.foreground, epoch.consistency),
            *(_percent(epoch.validation_map), f"{epoch.seconds:.1f}", f"{epoch.peak_memory_mb:.0f}"),
            *(() if epoch.gpu_percent is None else (f"{epoch.gpu_percent:.0f}",)),
        )
        lines = tabulate([row], _HEADERS[: len(row)], floatfmt=".4f").splitlines()
        console.echo("\n".join(lines[2 if self._row else 0 :]))
        self._row += 1


def name_few(names: Iterable[str], *, most: int = 3) -> str:
    """The first names in order, and how many more there are."""
    ordered = sorted(names)
    rest = f" and {len(ordered) - most:,} more" if len(ordered) > most else ""
    return ", ".join(name[:60] for name in ordered[:most]) + rest


def summary_table(results: Sequence[TrainingResult]) -> str:
    """A row for each training, and if there are several, mean ± standard deviation. mAP is in percent."""
    rows = [_summary(result) for result in results]
    if len(results) > 1:
        rows.append(("mean ± std", *(_mean_and_std(column) for column in list(zip(*rows, strict=True))[1:])))
    shown = [n for n in range(len(_SUMMARY)) if any(row[n] is not None for row in rows)]
    cells = [[_cell(row[n], _FORMATS[n]) for n in shown] for row in rows]
    return tabulate(cells, [_SUMMARY[n] for n in shown], disable_numparse=True, stralign="right")


def summary_csv(results: Sequence[TrainingResult]) -> bytes:
    """A row for each training as CSV, for programs; mAP is in [0, 1]."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(TrainingResult)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(result) for result in results)
    return text.getvalue().encode()


def _summary(result: TrainingResult) -> tuple[float | str | None, ...]:
    scores = (None if score is None else 100 * score for score in (result.seen_map, result.unseen_map))
    return (
        *(result.seed, result.videos, result.trained_on, result.best_epoch, *scores),
        *(result.epoch_s, result.peak_memory_mb, result.gpu_percent),
    )


def _mean_and_std(column: Sequence[float | str | None]) -> str | None:
    numbers = [value for value in column if isinstance(value, int | float)]
    if len(numbers) < 2:
        return None
    return f"{statistics.mean(numbers):.1f} ± {statistics.stdev(numbers):.1f}"


def _cell(value: float | str | None, shape: str) -> str:
    return value if isinstance(value, str) else "" if value is None else format(value, shape)


def _percent(score: float | None) -> str:
    return "" if score is None else f"{100 * score:.2f}"
