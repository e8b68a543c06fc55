"""From a checkpoint to a bundle that runs without PyTorch."""

from typing import TYPE_CHECKING

from stale_runtime._lazy import lazily

if TYPE_CHECKING:
    from stale_export.exporter import export_bundle
    from stale_export.int8_options import Int8Options

__all__ = ["Int8Options", "export_bundle"]

__getattr__, __dir__ = lazily(__name__, {"Int8Options": "int8_options", "export_bundle": "exporter"})
