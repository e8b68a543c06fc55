"""Every error that a user can cause, and the exit code that a command ends with.

::

    StaleError
    ├── FeatureError            3   a feature file or array
    ├── RecipeError             3   a feature recipe, or features that were made by another one
    ├── PromptError             3   a prompt or a prompt file
    ├── VideoError              3   a video that cannot be read, or decoded with what is installed
    ├── RemoteFileError         3   a file in object storage that cannot be had
    ├── DatasetError            3   annotations, durations, detections, splits
    ├── CheckpointError         3   a checkpoint, or the CLIP folder that belongs to it
    ├── BackendError            2   a backend that this machine lacks, or that cannot run this bundle
    ├── MissingPackageError     6   a package that is not installed
    ├── KeyFileError            3   a key to sign or verify with
    ├── JournalError            3   the journal of an interrupted run
    ├── OutOfMemoryError        3   an input that needs more memory than is available
    ├── TimeLimitError          3   a video that took longer than the limit that was asked for
    ├── WorkerError             1   a worker process that ended before its work was done
    ├── OutputError             2   a result or a temporary file that cannot be written
    ├── BundleError             4   a bundle that is missing or broken
    │   ├── ChecksumError       4   a file that differs from what the manifest says
    │   ├── SignatureError      4   a signature that is missing or invalid
    │   └── BundleVersionError  4   a format that this version cannot read
    ├── ExportError             1   an export that cannot be completed
    │   ├── ParityError         7   an exported graph that differs from the network
    │   └── QuantizationError   7   an int8 graph that is not int8, or loses too much
    └── BenchmarkError          1   a measurement that cannot be made
        └── LimitError          7   a measurement that missed its limit

A message says, on one line, what it is about, what was found, what was expected, and the remedy.
"""

from typing import ClassVar, Final

from stale_runtime.exit_codes import BAD_BUNDLE, BAD_INPUT, INCOMPLETE, LIMIT_MISSED, MISSING_PACKAGE, USAGE
from stale_runtime.extras import how_to_install

COPY_AGAIN: Final = "copy the bundle again, or ask whoever made it to export it again"
"""The remedy for a broken bundle: whoever runs it seldom has the checkpoint that it was exported from."""


class StaleError(Exception):
    """Base of all errors that this project raises on purpose."""

    exit_code: ClassVar[int] = INCOMPLETE


class FeatureError(StaleError):
    """A feature file or array cannot be used."""

    exit_code = BAD_INPUT


class RecipeError(StaleError):
    """A feature recipe cannot be used, or features were made by another recipe than expected."""

    exit_code = BAD_INPUT


class PromptError(StaleError):
    """A prompt or a prompt file cannot be used."""

    exit_code = BAD_INPUT


class VideoError(StaleError):
    """A video cannot be read, or not with what is installed."""

    exit_code = BAD_INPUT


class RemoteFileError(StaleError):
    """A file in object storage cannot be listed or read."""

    exit_code = BAD_INPUT


class DatasetError(StaleError):
    """Annotations, durations, detections or splits cannot be used."""

    exit_code = BAD_INPUT


class CheckpointError(StaleError):
    """A checkpoint, or the CLIP folder that belongs to it, cannot be used."""

    exit_code = BAD_INPUT


class BackendError(StaleError):
    """A backend cannot run on this machine, or with a bundle that lacks its graph."""

    exit_code = USAGE


class MissingPackageError(StaleError):
    """A package that is not installed is needed."""

    exit_code = MISSING_PACKAGE

    @classmethod
    def for_extra(cls, what: str, extra: str) -> "MissingPackageError":
        """Say what is missing and how to install it.

        Args:
            what: what needs which package, such as "videos need PyAV".
            extra: the extra of this package that installs it.
        """
        return cls(f"{what}, which is not installed; install it with: {how_to_install(extra)}")


class KeyFileError(StaleError):
    """A key to sign or verify with cannot be used."""

    exit_code = BAD_INPUT


class JournalError(StaleError):
    """The journal of an interrupted run cannot be read or written."""

    exit_code = BAD_INPUT


class OutOfMemoryError(StaleError):
    """An input needs more memory than is available."""

    exit_code = BAD_INPUT


class TimeLimitError(StaleError):
    """A video, or what precedes the first one, took longer than the limit that was asked for."""

    exit_code = BAD_INPUT


class WorkerError(StaleError):
    """A worker process ended before its work was done, or none can be started."""


class OutputError(StaleError):
    """A result, or a temporary file on the way to it, cannot be written."""

    exit_code = USAGE


class BundleError(StaleError):
    """A bundle is missing or broken."""

    exit_code = BAD_BUNDLE


class ChecksumError(BundleError):
    """A file of a bundle differs from what the manifest says."""


class SignatureError(BundleError):
    """A bundle's signature is missing or invalid."""


class BundleVersionError(BundleError):
    """A bundle's format is one that this version cannot read."""


class ExportError(StaleError):
    """An export cannot be completed."""


class ParityError(ExportError):
    """An exported graph differs from the network."""

    exit_code = LIMIT_MISSED


class QuantizationError(ExportError):
    """An int8 graph is not int8, or loses too much mAP."""

    exit_code = LIMIT_MISSED


class BenchmarkError(StaleError):
    """A measurement cannot be made."""


class LimitError(BenchmarkError):
    """A measurement missed its limit."""

    exit_code = LIMIT_MISSED
