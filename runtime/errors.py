"""Every error that a user can cause, and the exit code that a command ends with.

::

    StaleError
    ├── FeatureError            3   a feature file or array
    ├── RecipeError             3   a feature recipe, or features that were made by another one
    ├── PromptError             3   a prompt or a prompt file
    ├── VideoError              3   a video that cannot be read, or decoded with what is installed
    ├── DatasetError            3   annotations, durations, detections, splits
    ├── CheckpointError         3   a checkpoint, or the CLIP folder that belongs to it
    ├── BackendError            2   a backend that this machine or installation lacks
    ├── KeyFileError            3   a key to sign or verify with
    ├── JournalError            3   the journal of an interrupted run
    ├── OutOfMemoryError        3   an input that needs more memory than is available
    ├── TimeLimitError          3   a video that took longer than the limit that was asked for
    ├── OutputError             2   a result or a temporary file that cannot be written
    ├── BundleError             4   a bundle that is missing or broken
    │   ├── ChecksumError       4   a file that differs from what the manifest says
    │   ├── SignatureError      4   a signature that is missing or invalid
    │   └── BundleVersionError  4   a format that this version cannot read
    ├── ExportError             1   an export that cannot be completed
    │   ├── ParityError         1   an exported graph that differs from the network
    │   └── QuantizationError   1   an int8 graph that is not int8, or loses too much
    └── BenchmarkError          1   a measurement that cannot be made

A message says, on one line, what it is about, what was found, what was expected, and the remedy.
"""

from typing import ClassVar, Final

COPY_AGAIN: Final = "copy the bundle again, or ask whoever made it to export it again"
"""The remedy for a broken bundle: whoever runs it seldom has the checkpoint that it was exported from."""


class StaleError(Exception):
    """Base of all errors that this project raises on purpose."""

    exit_code: ClassVar[int] = 1


class FeatureError(StaleError):
    """A feature file or array cannot be used."""

    exit_code = 3


class RecipeError(StaleError):
    """A feature recipe cannot be used, or features were made by another recipe than expected."""

    exit_code = 3


class PromptError(StaleError):
    """A prompt or a prompt file cannot be used."""

    exit_code = 3


class VideoError(StaleError):
    """A video cannot be read, or not with what is installed."""

    exit_code = 3


class DatasetError(StaleError):
    """Annotations, durations, detections or splits cannot be used."""

    exit_code = 3


class CheckpointError(StaleError):
    """A checkpoint, or the CLIP folder that belongs to it, cannot be used."""

    exit_code = 3


class BackendError(StaleError):
    """A backend cannot run on this machine, or with what is installed."""

    exit_code = 2


class KeyFileError(StaleError):
    """A key to sign or verify with cannot be used."""

    exit_code = 3


class JournalError(StaleError):
    """The journal of an interrupted run cannot be read or written."""

    exit_code = 3


class OutOfMemoryError(StaleError):
    """An input needs more memory than is available."""

    exit_code = 3


class TimeLimitError(StaleError):
    """A video, or what precedes the first one, took longer than the limit that was asked for."""

    exit_code = 3


class OutputError(StaleError):
    """A result, or a temporary file on the way to it, cannot be written."""

    exit_code = 2


class BundleError(StaleError):
    """A bundle is missing or broken."""

    exit_code = 4


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


class QuantizationError(ExportError):
    """An int8 graph is not int8, or loses too much mAP."""


class BenchmarkError(StaleError):
    """A measurement cannot be made."""
