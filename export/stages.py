"""The stages of an export: which one it is in, and how far it is in one that takes long."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from stale_export.int8_options import Int8Options
from stale_export.say import Say
from stale_runtime.terminal.progress import duration

_WORTH_SAYING_S = 5
T = TypeVar("T")


Watch = Callable[[Collection[Any], str], Iterable[Any]]
"""Yields the items that it gets, and can show how many are done, because work is done after each. The text is what one
of them is, such as ``video``."""


class Show(Protocol):
    """``Progress.show`` of ``stale_runtime.terminal.progress``, or what takes its place."""

    def __call__(self, text: str, *, part: float | None = None, at_once: bool = False) -> None:
        """Show what is being done; see ``Progress.show``."""


def unwatched(items: Collection[T], _what: str) -> Iterable[T]:
    """Show nothing."""
    return items


class Stages:
    """Tells which stage an export is in."""

    def __init__(self, planned: int, show: Show, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: planned: number of stages; show: shows what is being done; clock: tells the time in seconds."""
        self._planned, self._show, self._clock = planned, show, clock
        self._entered, self._text = 0, ""

    @classmethod
    def said_by(cls, say: Say) -> "Stages":
        """Stages whose names are only said."""

        def show(text: str, *, part: float | None = None, at_once: bool = False) -> None:
            del part
            if at_once:
                say(text)

        return cls(1, show)

    def enter(self, text: str) -> None:
        """Begin the next stage.

        Args:
            text: what is done in it, such as ``exporting the localizer``.
        """
        self._entered, self._text = self._entered + 1, text
        self._show(text, part=self._part(0), at_once=True)

    def watch(self, items: Collection[T], what: str) -> Iterator[T]:
        """Yield items of this stage, and show how many are done; see ``Watch``."""
        started_s = self._clock()
        for done, item in enumerate(items):
            yield item
            left_s = (self._clock() - started_s) / (done + 1) * (len(items) - done - 1)
            text = f"{self._text}: {what} {done + 1:,} of {len(items):,}"
            left = f", {duration(left_s)} left" if left_s >= _WORTH_SAYING_S else ""
            self._show(text + left, part=self._part((done + 1) / len(items)))

    def _part(self, of_stage: float) -> float:
        return min(1.0, (self._entered - 1 + of_stage) / self._planned)


def count_stages(int8: Int8Options, *, vision: bool, graphs: Collection[str]) -> int:
    """The number of stages of ``export_bundle``.

    Args:
        int8: how the int8 graphs are made and checked.
        vision: whether the bundle gets a vision tower.
        graphs: keys of ``GRAPH_FILES``, the graphs that it gets.
    """
    always = ("prompts", "text encoder", "localizer", "comparison", "writing")
    sometimes = {
        "quantization": any("int8" in graph for graph in graphs if graph.startswith("ort")),
        "approximation": "ort-fast" in graphs and int8.calibration is not None,
        "PyTorch": any(graph.startswith("torch") for graph in graphs),
        "text quantization": int8.text_precision != "fp32",
        "calibration features": int8.calibration is not None,
        "validation features": int8.validation_features is not None,
        "validation": int8.annotations is not None,
        **dict.fromkeys(("tower", "tower in float", "tower in int8"), vision),
        **dict.fromkeys(("videos", "validation of the tower"), int8.validation_videos is not None),
    }
    return len(always) + sum(sometimes.values())
