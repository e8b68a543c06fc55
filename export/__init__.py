"""From a checkpoint to a bundle that runs without PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stale_export.exporter import ExportedFile, export_bundle
    from stale_export.graphs import LocalizerGraph

__all__ = ["ExportedFile", "LocalizerGraph", "export_bundle"]

_HOMES = {
    "ExportedFile": "stale_export.exporter",
    "LocalizerGraph": "stale_export.graphs",
    "export_bundle": "stale_export.exporter",
}


def __getattr__(name: str) -> Any:
    """Load PyTorch when something is used, not when the command line prints its help."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
