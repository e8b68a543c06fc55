"""Room for the files that ONNX Runtime's tools cannot do without."""

import shutil
import tempfile
from pathlib import Path

from stale_runtime.errors import ExportError


def require_room(size: int) -> None:
    """Make sure that the system's temporary folder takes so many bytes; ONNX Runtime does not say that it is full.

    Raises:
        ExportError: it does not.
    """
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ExportError(
            f"{folder}: {free / 1e6:.1f} MB free, {size / 1e6:.1f} MB needed; make room, or name another folder in "
            "TMPDIR"
        )
