"""What every process of a run with Ray has to know to give the same detections."""

from dataclasses import dataclass, replace
from pathlib import Path

from stale_runtime.batch.batch import BatchRun
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.onnx_session import Processor
from stale_runtime.errors import BundleError
from stale_runtime.formats.result_rows import settings_text
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.localizer import NO_TIMELINE, Localizer
from stale_runtime.inference.settings import Settings
from stale_runtime.inputs.prompts import Prompts
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.video.vision_encoder import VisionEncoder


@dataclass(frozen=True, kw_only=True)
class DetectionPlan:
    """A bundle, encoded prompts and options. It can be sent to other processes and machines."""

    bundle: Path
    """The bundle's folder, which must be the same on every machine."""
    bundle_sha256: str
    """Every process refuses another bundle than this."""
    settings: Settings
    """All of them chosen: what was left to the bundle is decided."""
    prompts: EncodedPrompts
    timeline: Timeline
    """How long the videos of feature files last."""
    strict: bool
    """Whether features that are not like those of the training are an error."""
    vision_processor: Processor
    """What computes the features of videos."""
    text: str
    """What all rows of the run have in the column ``settings``."""

    @classmethod
    def make(
        cls,
        bundle: Bundle,
        settings: Settings,
        prompts: Prompts,
        *,
        videos: bool = False,
        timeline: Timeline = NO_TIMELINE,
        strict: bool = False,
        vision_processor: Processor = "cpu",
    ) -> "DetectionPlan":
        """Open the bundle once, so that what is wrong is known before any other process starts, and encode the prompts.

        Args:
            bundle: is known by its folder on all machines of a cluster.
            settings: as for ``Localizer``.
            prompts: class names.
            videos: whether some of the run's files are videos, for which the bundle needs a vision tower.
            timeline: how long the videos of feature files last.
            strict: whether features that are not like those of the training are an error.
            vision_processor: ``cuda`` to compute the features of videos with GPUs.

        Raises:
            StaleError: the bundle, a prompt or the backend cannot be used, or a package for videos is missing.
            ValueError: the bundle's decoder lacks one of the options.
        """
        localizer = Localizer(bundle, settings)
        if strict and not bundle.manifest.feature_check.knows_anything:
            raise BundleError(
                f"strict: {bundle.path} says nothing about the features of the training, so none can be compared; "
                "leave it out, or ask for a bundle that was exported with --calibration"
            )
        if videos:
            localizer.require_videos()
        encoded = localizer.encode_prompts(prompts)
        run = BatchRun(
            localizer=localizer,
            prompts=encoded,
            paths=(Path("any.mp4"),) if videos else (),
            timeline=timeline,
            split_names=prompts.split_names,
        )
        return cls(
            bundle=bundle.path.absolute(),
            bundle_sha256=bundle.manifest_sha256,
            settings=replace(settings, backend=localizer.backend, cache=False),
            prompts=encoded,
            timeline=timeline,
            strict=strict,
            vision_processor=vision_processor,
            text=settings_text({**run.journal_settings(), **run.report_settings()}),
        )

    def open_bundle(self) -> Bundle:
        """Open the bundle's folder.

        Raises:
            BundleError: it is not there, or another one.
        """
        return Bundle(self.bundle, expect_sha256=self.bundle_sha256)

    def open_localizer(self) -> Localizer:
        """Open the bundle in this process.

        Raises:
            StaleError: it is not there, or another one.
        """
        return Localizer(self.open_bundle(), self.settings)

    def open_encoder(self) -> VisionEncoder:
        """Open the bundle's vision tower in this process.

        Raises:
            StaleError: it is not there, or another one.
            BackendError: a GPU is to run it, and cannot.
        """
        return VisionEncoder.open(
            self.open_bundle(),
            self.settings.vision_precision,
            threads=self.settings.threads,
            processor=self.vision_processor,
        )
