"""The metrics of each epoch, as a CSV table and as a plot."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A row of the metrics."""

    epoch: int
    """Number of the epoch, from 1."""
    total: float
    classification: float
    masks: float
    foreground: float
    consistency: float
    validation_map: float | None
    """Average mAP in [0, 1]; None without validation videos."""
    seconds: float
    """Seconds of training, without validation."""
    peak_memory_mb: float
    """Peak memory of the GPU if there is one, else of the process."""
    gpu_percent: float | None
    """Median utilization of the GPU; None if it is not known."""


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch whose weights ``best.pth`` has.

    It is the one with the highest validation mAP, the first of equally good ones. Without validation videos it is the
    last epoch, because the loss on the videos that are trained on cannot tell which epoch generalizes best.
    """
    if history[-1].validation_map is None:
        return history[-1]
    return max(history, key=lambda epoch: epoch.validation_map or 0)


def metrics_csv(history: Sequence[Epoch]) -> bytes:
    """A header, and a row for each epoch; at least one epoch."""
    rows = [asdict(epoch) for epoch in history]
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue().encode()


def curves_png(history: Sequence[Epoch]) -> bytes:
    """A plot of loss and validation mAP over the epochs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, loss_axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    epochs = [epoch.epoch for epoch in history]
    loss_axis.plot(epochs, [epoch.total for epoch in history], "o-", color="tab:blue")
    loss_axis.set_xlabel("epoch")
    loss_axis.set_ylabel("training loss", color="tab:blue")
    if history[-1].validation_map is not None:
        map_axis = loss_axis.twinx()
        map_axis.plot(epochs, [100 * (epoch.validation_map or 0) for epoch in history], "s-", color="tab:orange")
        map_axis.set_ylabel("validation mAP, %", color="tab:orange")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    pyplot.close(figure)
    return buffer.getvalue()
