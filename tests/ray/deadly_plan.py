"""Plans whose actors die, in a module of its own so that Ray's processes can import it."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stale_runtime import Localizer, Outcome
from stale_runtime.errors import BackendError
from stale_runtime.ray_data.detection_plan import DetectionPlan


class DeadlyPlan(DetectionPlan):
    """A file called ``deadly`` ends the process, as a bug in a library may."""

    def open_localizer(self) -> Localizer:
        localizer = super().open_localizer()
        localizer.__class__ = _DyingLocalizer
        return localizer


class DyingOncePlan(DetectionPlan):
    """The first process that gets a file called ``deadly`` dies: afterwards there is a mark beside it."""

    def open_localizer(self) -> Localizer:
        localizer = super().open_localizer()
        localizer.__class__ = _DyingOnceLocalizer
        return localizer


class UnusablePlan(DetectionPlan):
    """No process can open the bundle."""

    def open_localizer(self) -> Localizer:
        raise BackendError("this machine lacks something")


class _DyingLocalizer(Localizer):
    def detect_many(self, paths: Sequence[Path], *arguments: Any, **options: Any) -> Iterator[Outcome]:  # type: ignore[override]
        if any(path.stem == "deadly" for path in paths):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().detect_many(paths, *arguments, **options)


class _DyingOnceLocalizer(Localizer):
    def detect_many(self, paths: Sequence[Path], *arguments: Any, **options: Any) -> Iterator[Outcome]:  # type: ignore[override]
        for path in paths:
            if path.stem == "deadly" and not path.with_suffix(".mark").exists():
                path.with_suffix(".mark").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().detect_many(paths, *arguments, **options)
