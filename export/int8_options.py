"""How the int8 graphs of a bundle are made and checked. Importing this module does not load PyTorch."""

import os
from dataclasses import dataclass

from stale_export.schemes import TARGETS, bits_for

TEXT_PRECISIONS = ("fp32", "int8")
"""Precisions in which the text encoder can be exported."""


@dataclass(frozen=True, kw_only=True)
class Int8Options:
    """How the int8 graphs are made, and how much mAP they may lose."""

    calibration: str | os.PathLike[str] | None = None
    """Folder of training features; without it ``ort-int8`` is the dynamic graph."""
    calibration_videos: int = 64
    """Most videos of that folder to calibrate on, at least 1."""
    calibration_seed: int = 0
    """Decides which videos of the folder are taken."""
    annotations: str | os.PathLike[str] | None = None
    """Annotations of the videos that mAP is measured on; without them mAP is not measured."""
    annotations_subset: str = "validation"
    """Subset of the annotations."""
    video_info: str | os.PathLike[str] | None = None
    """File with subset and duration of each video, for annotations without them; see ``read_video_info``."""
    validation_features: str | os.PathLike[str] | None = None
    """Folder with the features of the annotated videos."""
    validation_videos: str | os.PathLike[str] | None = None
    """Folder with the annotated videos themselves, on which the int8 vision tower is compared with the float one.

    Without ``validation_features``, the float tower's features of these videos validate the localizer, too."""
    max_map_drop: float = 0.5
    """Most points of mAP that a graph which ``stale-run`` loads may lose against the float graph, at least 0."""
    target: str = "portable"
    """One of ``TARGETS``."""
    weight_bits: int | None = None
    """Bits of a weight, 4 to 8; None for the largest number that is exact on the target."""
    text_precision: str = "fp32"
    """One of ``TEXT_PRECISIONS``."""

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"target {self.target!r}, expected one of {', '.join(TARGETS)}")
        if self.text_precision not in TEXT_PRECISIONS:
            raise ValueError(f"text_precision {self.text_precision!r}, expected {' or '.join(TEXT_PRECISIONS)}")
        has_videos = self.validation_features is not None or self.validation_videos is not None
        if (self.annotations is None) == has_videos:
            raise ValueError(
                "annotations go together with validation_features or validation_videos; give both, or neither"
            )
        if self.video_info is not None and self.annotations is None:
            raise ValueError(
                "video_info without annotations; give the annotations whose subsets it says, or leave it out"
            )
        if self.calibration_videos < 1:
            raise ValueError(f"calibration_videos {self.calibration_videos}, expected at least 1")
        if not self.max_map_drop >= 0:
            raise ValueError(f"max_map_drop {self.max_map_drop}, expected 0 percent of mAP or more")
        if self.weight_bits is not None and not 4 <= self.weight_bits <= 8:
            raise ValueError(f"weight_bits {self.weight_bits}, expected 4 to 8")
        bits_for(self.target, self.weight_bits)  # raises if products would saturate
