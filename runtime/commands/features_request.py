"""What ``stale-features`` is asked to do: its options, checked once."""

import os
from dataclasses import dataclass
from pathlib import Path

import click

from stale_runtime.bundle.vision_spec import Precision
from stale_runtime.commands.run_request import BundleRequest
from stale_runtime.inputs.shards import Shard
from stale_runtime.video.video_features import ImageEncoder
from stale_runtime.video.vision_encoder import VisionEncoder


@dataclass(frozen=True, kw_only=True)
class EncoderRequest:
    """The vision tower to use. Calling it opens the tower."""

    bundle: BundleRequest
    vision: Path | None
    """Folder with a tower as ONNX, and its recipe; None for the bundle's."""
    precision: Precision | None
    """None for the default."""
    threads: int
    """Threads that it may use."""

    def __call__(self) -> ImageEncoder:
        """Open the tower.

        Raises:
            StaleError: it cannot be used.
        """
        if self.vision is not None:
            return VisionEncoder.open_folder(self.vision, threads=self.threads)
        return VisionEncoder.open(self.bundle.open(), precision=self.precision, threads=self.threads)


@dataclass(frozen=True, kw_only=True)
class FeaturesRequest:
    """The videos and options of one run. Constructing it raises ``click.UsageError`` if they make no sense together."""

    videos: tuple[Path, ...]
    """Videos, and folders of them."""
    encoder: EncoderRequest
    output: Path | None
    """Folder for the features; None to compare."""
    compare: Path | None
    """Published features of the one video; None to write features."""
    workers: int
    """Processes that work at once."""
    shard: Shard | None = None
    """Which of the videos are this machine's; None for all."""
    timeout: float | None
    """Most seconds for a video, or for opening the tower; None for no limit."""
    overwrite: bool
    """Whether to replace features that were made otherwise."""
    verbose: bool
    """Whether to print what is used, and a line for each video."""

    def __post_init__(self) -> None:
        if not self.videos:
            raise click.UsageError("no VIDEOS; give a video or a folder of them")
        if self.encoder.vision is not None and self.encoder.bundle != _NO_BUNDLE:
            raise click.UsageError(
                "--vision with --bundle, --expect-sha256 or --verify; give the folder of a tower or a bundle, not both"
            )
        if self.compare is not None:
            self._check_comparison()
        elif self.output is None:
            raise click.UsageError("no -o; give the folder for the features, or --compare with published ones")
        else:
            self._check_output(self.output)

    def _check_comparison(self) -> None:
        given = {"-o": self.output, "--overwrite": self.overwrite, "--workers": self.workers > 1, "--shard": self.shard}
        for option, value in given.items():
            if value:
                raise click.UsageError(f"{option} with --compare, which writes no features; leave one of them out")
        if len(self.videos) > 1 or os.path.isdir(self.videos[0]):
            raise click.UsageError("--compare takes one video, the one of the published features")

    def _check_output(self, output: Path) -> None:
        if os.path.lexists(output) and not os.path.isdir(output):
            raise click.UsageError(f"-o {output}: not a folder; give the path of one, which is made if it is missing")
        if not os.path.isdir(output) and not os.path.isdir(output.parent):
            raise click.UsageError(f"-o {output}: there is no folder {output.parent}; create it first")


_NO_BUNDLE = BundleRequest(path=None, expect_sha256=None, verify_key=None)
