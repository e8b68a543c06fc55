"""What a bundle says of itself: ``manifest.json``, as dataclasses and as bytes."""

import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stale_runtime.bundle import layout
from stale_runtime.errors import BundleError, BundleVersionError, ChecksumError
from stale_runtime.system.json_dataclasses import build

FORMAT_VERSION = 2
LONGEST_CONTEXT = 4096
"""Tokens of a prompt; CLIP takes 77."""
LONGEST_TEMPLATE = 2000
"""Characters of the text that class names are put into."""
LARGEST_AXIS = 2**16
"""Channels, heads or snippets that a network may have."""
_ENCODER = json.JSONEncoder(indent=1, ensure_ascii=True, allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """What a file of the bundle must be."""

    sha256: str
    """Lower-case hexadecimal digest of its bytes."""
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output of a graph."""

    name: str
    dtype: str
    """As numpy names it."""
    shape: tuple[int | str, ...]
    """A letter stands for an axis of any size."""


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """The interface of an ONNX graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, kw_only=True)
class TextEncoderSpec:
    """How prompts become embeddings."""

    clip: str
    """The Hugging Face id, or the folder's name, that the tower's configuration and tokenizer came from."""
    context_length: int
    """Most tokens of a prompt, start and end token included."""
    pad_token: int
    """Id of the end token, which also fills short prompts up."""
    prefix: tuple[int, ...]
    """Token ids that every prompt begins with, start token included; the graph has them inside."""
    prompt_template: str
    """The text that a class name is put into, at ``{}``."""

    def __post_init__(self) -> None:
        if not 1 <= self.context_length <= LONGEST_CONTEXT or len(self.prefix) > self.context_length:
            raise ValueError(f"context_length is {self.context_length}, expected 1 to {LONGEST_CONTEXT} tokens")
        if any(not 0 <= token < 2**31 for token in (self.pad_token, *self.prefix)):
            raise ValueError("text_encoder has a token id that is none")
        if self.prompt_template.count("{}") != 1 or len(self.prompt_template) > LONGEST_TEMPLATE:
            raise ValueError(
                f"prompt_template has {len(self.prompt_template)} characters, expected a text with one {{}}"
            )

    def fill(self, names: Sequence[str]) -> list[str]:
        """The prompts of class names."""
        return [self.prompt_template.replace("{}", name) for name in names]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The checkpoint that a bundle was made of."""

    format: str
    """``original``: the published code's; ``stale-edge``: our own."""
    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class ParityRecord:
    """How far one output of a graph lies from the network's, for one set of inputs."""

    file: str
    output: str
    batch: int
    """B; 0 where the graph has no such axis."""
    length: int
    """T in snippets, or tokens a prompt for the text encoder."""
    classes: int
    """K"""
    deviation: float
    """Largest absolute difference."""
    limit: float
    """Largest that is accepted."""


@dataclass(frozen=True, kw_only=True)
class QuantizationRecord:
    """How an int8 graph was made, and what it is proved to be."""

    file: str
    kind: str
    """``static``: ranges from calibration; ``dynamic``: from each video as it runs."""
    target: str
    """``portable`` for any CPU, ``vnni`` for those that have it."""
    weight_bits: int
    integer_operators_expected: int
    integer_operators_found: int
    """In the graph as ONNX Runtime ran it on the machine that exported it."""
    float_layers: tuple[str, ...] = ()
    """Layers that were returned to float, to keep mAP."""
    range_method: str | None = None
    """How ranges were taken from the calibration videos; None for a dynamic graph."""
    calibration_videos: tuple[str, ...] = ()
    """Ids."""
    calibration_seed: int | None = None
    map_percent: float | None = None
    """Average mAP on validation videos; None where none were given, and the graph is not verified."""
    fp32_map_percent: float | None = None
    """That of the float graph on the same videos."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that is known of a bundle."""

    format_version: int
    versions: Mapping[str, str]
    """Of the packages that made it."""
    source: Source
    channels: int
    """C, width of features and embeddings."""
    heads: int
    """H of the cross-adaptation; a prompt's queries are H*C wide."""
    temporal_scale: int
    """T that the network was trained at, in snippets."""
    decoder: str
    """The decoder to use unless told otherwise."""
    text_encoder: TextEncoderSpec
    graphs: Mapping[str, GraphSpec]
    """By file name."""
    parity: tuple[ParityRecord, ...]
    quantization: tuple[QuantizationRecord, ...]
    files: Mapping[str, FileRecord]
    """Every file of the bundle but the manifest."""

    def __post_init__(self) -> None:
        for name in ("channels", "heads", "temporal_scale"):
            if not 1 <= getattr(self, name) <= LARGEST_AXIS:
                raise ValueError(f"{name} is {reprlib.repr(getattr(self, name))}, expected 1 to {LARGEST_AXIS}")

    @property
    def sha256(self) -> str:
        """The hash of ``manifest.json``, which stands for all of the bundle."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The content of ``manifest.json``, with a digest of itself."""
        content = asdict(self)
        return _encode({"manifest_sha256": _sha256(_encode(content)), **content})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read ``manifest.json``.

        Raises:
            BundleVersionError: it is of another format version.
            ChecksumError: it is not as it was written.
            BundleError: it is no manifest.
        """
        try:
            content = json.loads(data)
            json.dumps(content, ensure_ascii=False).encode()  # halves of characters could not be printed later
        except (ValueError, RecursionError):
            raise ChecksumError(
                f"{layout.MANIFEST}: damaged, not valid JSON; copy or export the bundle again"
            ) from None
        if not isinstance(content, dict) or not isinstance(content.get("format_version"), int):
            raise BundleError(f"{layout.MANIFEST}: has no format_version, so it is none of stale-edge's; export again")
        if content["format_version"] != FORMAT_VERSION:
            raise BundleVersionError(
                f"{layout.MANIFEST}: format_version {content['format_version']}, this version of stale-edge reads "
                f"{FORMAT_VERSION}; update stale-edge or export the bundle again"
            )
        digest = content.pop("manifest_sha256", None)
        unsealed = b"{\n" + data.split(b"\n", 2)[-1]
        if not _is_encoded(data, {"manifest_sha256": digest, **content}) or digest != _sha256(unsealed):
            raise ChecksumError(f"{layout.MANIFEST}: damaged or edited by hand; copy or export the bundle again")
        try:
            return build(cls, content)
        except ValueError as problem:
            raise BundleError(f"{layout.MANIFEST}: {problem}") from None


def _encode(content: Any) -> bytes:
    return ("".join(_ENCODER.iterencode(content)) + "\n").encode()


def _is_encoded(data: bytes, content: Any) -> bool:
    """Whether bytes are what ``_encode`` makes, found out without making more: nested deeply, that can be gigabytes."""
    at = 0
    try:
        for piece in _ENCODER.iterencode(content):
            if not data.startswith(piece.encode(), at):
                return False
            at += len(piece)
    except (ValueError, RecursionError):
        return False
    return data[at:] == b"\n"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
