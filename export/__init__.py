"""From a checkpoint to a bundle that runs without PyTorch."""

from typing import TYPE_CHECKING

from stale_runtime.lazy import lazily

if TYPE_CHECKING:
    from stale_export.exporter import ExportedFile, export_bundle
    from stale_export.graphs import LocalizerGraph

__all__ = ["ExportedFile", "LocalizerGraph", "export_bundle"]

__getattr__ = lazily(__name__, {"ExportedFile": "exporter", "LocalizerGraph": "graphs", "export_bundle": "exporter"})
