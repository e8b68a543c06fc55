"""From a checkpoint to a bundle that runs without PyTorch."""

from stale_export.exporter import ExportedFile, export_bundle
from stale_export.graphs import LocalizerGraph

__all__ = ["ExportedFile", "LocalizerGraph", "export_bundle"]
