"""A run whose workers do not survive a certain video, or get stuck at it."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from stale_runtime.batch import batch
from stale_runtime.batch.detection_work import DetectionWork, VideoTask
from stale_runtime.batch.group_detection import Processed
from stale_runtime.commands import run

GATE = "GATE"
"""Environment variable with the path of a pipe, which a worker opens before it is stuck."""


class OddDetectionWork(DetectionWork):
    """Videos called ``v_deadly`` kill the worker, those called ``v_stuck`` never end."""

    def open(self) -> Callable[[Sequence[VideoTask]], Iterable[Processed]]:
        process = super().open()

        def process_oddly(tasks: Sequence[VideoTask]) -> Iterator[Processed]:
            names = {task.path.stem for task in tasks}
            if "v_deadly" in names:
                os.kill(os.getpid(), signal.SIGKILL)
            if "v_stuck" in names:
                Path(os.environ[GATE]).write_bytes(b"stuck")
                threading.Event().wait()
            yield from process(tasks)

        return process_oddly


def main() -> None:
    """Run ``stale-run`` with this work."""
    batch.DetectionWork = OddDetectionWork  # type: ignore[misc]
    sys.argv[0] = "stale-run"
    run.main()


if __name__ == "__main__":
    from tests.cli import odd_detection  # workers know its classes by this name

    odd_detection.main()
