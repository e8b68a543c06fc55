"""Room for the temporary files that ONNX Runtime's tools need."""

import shutil
import tempfile
from pathlib import Path

from stale_runtime.errors import ExportError


def require_room(size: int) -> None:
    """Make sure that the system's temporary folder has room; ONNX Runtime's tools do not report a full disk.

    Args:
        size: bytes.

    Raises:
        ExportError: it has less.
    """
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ExportError(
            f"{folder}: {free / 1e6:.1f} MB free, {size / 1e6:.1f} MB needed; make room, or name another folder in "
            "TMPDIR"
        )
