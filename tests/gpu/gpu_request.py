"""What ``make gpu`` is asked to do, and how large its inputs are."""

import time
from dataclasses import dataclass, field
from pathlib import Path

DEVICES = ("cuda", "cpu")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is computed."""

    videos: int
    """Made-up videos to train on."""
    validation_videos: int
    batch_size: int
    length: int
    """T that networks are trained at, in snippets."""
    forward_lengths: tuple[int, ...]
    forward_videos: int
    """Videos of each of these lengths."""
    epochs: int
    """In the first one a GPU still loads its kernels; the last one's time counts."""
    compared_steps: int
    """First steps of a training whose losses are compared."""
    full_tower: bool
    """Whether the trained text tower has the size of CLIP ViT-B/32; else it is the demo's."""
    classes: int
    """Prompts of the network that is timed, and of the forward passes that are compared."""
    thesis_lengths: tuple[str, ...]
    """As ``stale-bench thesis --lengths`` takes them."""
    seeds: int


FULL = Sizes(
    videos=320,
    validation_videos=16,
    batch_size=32,
    length=100,
    forward_lengths=(100, 400, 1000),
    forward_videos=4,
    epochs=2,
    compared_steps=5,
    full_tower=True,
    classes=200,
    thesis_lengths=("100", "200:3000:200"),
    seeds=5,
)
SMALL = Sizes(
    videos=32,
    validation_videos=4,
    batch_size=16,
    length=100,
    forward_lengths=(100, 200),
    forward_videos=2,
    epochs=2,
    compared_steps=2,
    full_tower=False,
    classes=20,
    thesis_lengths=("100", "200"),
    seeds=1,
)
"""For a CPU that stands in for the GPU."""
TINY = Sizes(
    videos=4,
    validation_videos=1,
    batch_size=4,
    length=32,
    forward_lengths=(32, 40),
    forward_videos=1,
    epochs=1,
    compared_steps=1,
    full_tower=False,
    classes=20,
    thesis_lengths=("16",),
    seeds=1,
)
"""For the tests, with the network as wide as published."""


@dataclass(frozen=True, kw_only=True)
class GpuRequest:
    """Where to compute, and with what."""

    device: str
    """One of ``DEVICES``."""
    sizes: Sizes
    workspace: Path
    """An existing folder for everything that is made on the way."""
    reference: Path | None = None
    """Folder with ``clip``, ``classes.txt`` and perhaps ``best.pth`` and ``features``; None to make everything up."""
    limit_s: float = 450.0
    """Seconds for everything; the measurement of the thesis, which is the last section, takes what is left."""
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ValueError(f"device {self.device!r}, expected {' or '.join(DEVICES)}")
        if self.reference is not None and not (self.reference / "clip" / "config.json").is_file():
            raise ValueError(f"--reference {self.reference}: no clip/config.json in it")

    @property
    def left_s(self) -> float:
        """Seconds until the limit."""
        return self.limit_s - (time.monotonic() - self.started)
