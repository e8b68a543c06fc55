"""Every error that a user can cause, and the exit code that a command ends with.

::

    StaleError
    ├── FeatureError            3   a feature file or array
    ├── PromptError             3   a prompt or a prompt file
    ├── DatasetError            3   annotations, durations, detections, splits
    ├── CheckpointError         3   a checkpoint, or the CLIP folder that goes with it
    ├── BackendError            2   a backend that this machine or install does not have
    ├── KeyFileError            3   a key to sign or verify with
    ├── JournalError            3   what is kept of an interrupted run
    ├── OutOfMemoryError        3   an input that needs more memory than there is
    ├── OutputError             2   a place that a result, or what is needed on the way to it, cannot be written to
    ├── BundleError             4   a bundle that is not there, or not as a bundle should be
    │   ├── ChecksumError       4   a file that is not what the manifest says
    │   ├── SignatureError      4   a signature that is not there, or does not hold
    │   └── BundleVersionError  4   a format that this version cannot read
    ├── ExportError             1   an export that cannot be completed
    │   ├── ParityError         1   an exported graph that differs from the network
    │   └── QuantizationError   1   an int8 graph that is not int8, or loses too much
    └── BenchmarkError          1   a measurement that cannot be made

A message says what it is about, what was got, what was expected, and the remedy, on one line.
"""

from typing import ClassVar


class StaleError(Exception):
    """Base of all errors that this project raises on purpose."""

    exit_code: ClassVar[int] = 1


class FeatureError(StaleError):
    """A feature file or array cannot be used."""

    exit_code = 3


class PromptError(StaleError):
    """A prompt or a prompt file cannot be used."""

    exit_code = 3


class DatasetError(StaleError):
    """Annotations, durations, detections or splits cannot be used."""

    exit_code = 3


class CheckpointError(StaleError):
    """A checkpoint, or the CLIP folder that goes with it, cannot be used."""

    exit_code = 3


class BackendError(StaleError):
    """A backend cannot run on this machine, or with what is installed."""

    exit_code = 2


class KeyFileError(StaleError):
    """A key to sign or verify with cannot be used."""

    exit_code = 3


class JournalError(StaleError):
    """What is kept of an interrupted run cannot be used or written."""

    exit_code = 3


class OutOfMemoryError(StaleError):
    """An input needs more memory than this process may take."""

    exit_code = 3


class OutputError(StaleError):
    """A result, or what is needed on the way to it, cannot be written."""

    exit_code = 2


class BundleError(StaleError):
    """A bundle is not there, or is not as a bundle should be."""

    exit_code = 4


class ChecksumError(BundleError):
    """A file of a bundle is not what the manifest says."""


class SignatureError(BundleError):
    """A bundle's signature is not there, or does not hold."""


class BundleVersionError(BundleError):
    """A bundle's format is one that this version cannot read."""


class ExportError(StaleError):
    """An export cannot be completed."""


class ParityError(ExportError):
    """An exported graph differs from the network it was made of."""


class QuantizationError(ExportError):
    """An int8 graph is not int8, or loses too much."""


class BenchmarkError(StaleError):
    """A measurement cannot be made."""
