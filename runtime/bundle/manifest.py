"""The description of a bundle, ``manifest.json``, as dataclasses and as bytes."""

import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stale_runtime.bundle import layout
from stale_runtime.bundle.approximation_record import ApproximationRecord
from stale_runtime.bundle.reading_score import ReadingScore
from stale_runtime.bundle.vision_spec import VisionSpec
from stale_runtime.errors import COPY_AGAIN, BundleError, BundleVersionError, ChecksumError
from stale_runtime.inputs.feature_check import FeatureCheck
from stale_runtime.inputs.feature_statistics import FeatureStatistics
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE, FeatureRecipe
from stale_runtime.system.json_dataclasses import build

FORMAT_VERSION = 5
_OLDEST_VERSION = 2
_ADDED: Mapping[int, Mapping[str, Any]] = {
    3: {"recipe": asdict(UNKNOWN_RECIPE), "feature_statistics": None, "vision": None},
    4: {"reading_score": None},
    5: {"mask_nodes": None, "approximation": None},
}
"""What each version of the format added, and what it is in older bundles."""
_ADDED_TO_QUANTIZATION: Mapping[int, Mapping[str, Any]] = {
    4: {"validation_videos": None, "map_change_low": None, "map_change_high": None}
}
"""What each version added to ``QuantizationRecord``."""
LONGEST_CONTEXT = 4096
"""Tokens of a prompt; CLIP takes 77."""
LONGEST_TEMPLATE = 2000
"""Characters of a prompt template."""
MOST_NODES = 64
"""Most nodes in a gap of the mask kernel."""
LARGEST_AXIS = 2**16
"""Most channels, heads or snippets of a network."""
_SEAL = '{\n "manifest_sha256": "%s",\n'
"""The beginning of ``manifest.json``. The digest covers the whole file, with ``{`` and a newline in place of this."""
_SEAL_LENGTH = len(_SEAL % (64 * "0"))


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Checksum and size of a file."""

    sha256: str
    """Lower-case hexadecimal digest of its bytes."""
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output of a graph."""

    name: str
    dtype: str
    """Numpy's name of the type."""
    shape: tuple[int | str, ...]
    """A letter stands for any size."""


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """The interface of an ONNX graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, kw_only=True)
class TextEncoderSpec:
    """How prompts become embeddings."""

    clip: str
    """Hugging Face id, or name of the folder, from which the tower's configuration and tokenizer came."""
    context_length: int
    """Most tokens of a prompt, including start and end token."""
    pad_token: int
    """Id of the end token, with which short prompts are padded."""
    prefix: tuple[int, ...]
    """Token ids at the beginning of every prompt, including the start token; they are part of the graph."""
    prompt_template: str
    """Text with ``{}``, where the class name is inserted."""

    def __post_init__(self) -> None:
        if not 1 <= self.context_length <= LONGEST_CONTEXT or len(self.prefix) > self.context_length:
            raise ValueError(f"context_length is {self.context_length}, expected 1 to {LONGEST_CONTEXT} tokens")
        if any(not 0 <= token < 2**31 for token in (self.pad_token, *self.prefix)):
            raise ValueError("text_encoder has a token id that is negative or too large")
        if self.prompt_template.count("{}") != 1 or len(self.prompt_template) > LONGEST_TEMPLATE:
            raise ValueError(
                f"prompt_template has {len(self.prompt_template)} characters, expected a text with one {{}}"
            )

    def fill(self, names: Sequence[str]) -> list[str]:
        """The prompts of class names."""
        return [self.prompt_template.replace("{}", name) for name in names]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The checkpoint that a bundle was exported from."""

    format: str
    """``original``: written by the published code; ``stale-edge``: written by this project."""
    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class ParityRecord:
    """Deviation of one output of a graph from the network's, for one set of inputs."""

    file: str
    output: str
    batch: int
    """B; 0 if the graph has no such axis."""
    length: int
    """T in snippets; for the text encoder, tokens per prompt."""
    classes: int
    """K"""
    deviation: float
    """Largest absolute difference."""
    limit: float
    """Largest accepted deviation."""


@dataclass(frozen=True, kw_only=True)
class QuantizationRecord:
    """How an int8 graph was quantized, and what was verified about it."""

    file: str
    kind: str
    """``static``: with ranges from calibration; ``dynamic``: with ranges of each video."""
    target: str
    """``portable`` for any CPU, ``vnni`` for CPUs with VNNI."""
    weight_bits: int
    integer_operators_expected: int
    integer_operators_found: int
    """In the graph as ONNX Runtime optimized it on the machine of the export."""
    float_layers: tuple[str, ...] = ()
    """Layers kept in float, for the sake of mAP."""
    range_method: str | None = None
    """How the ranges were computed from the calibration videos; None for a dynamic graph."""
    calibration_videos: tuple[str, ...] = ()
    """Ids."""
    calibration_seed: int | None = None
    map_percent: float | None = None
    """Average mAP on validation videos; None if none were given, so that mAP is not verified."""
    fp32_map_percent: float | None = None
    """Average mAP of the float graph on the same videos; for a vision tower, both are the localizer's in float."""
    validation_videos: int | None = None
    """How many videos mAP was measured on; None if it was not, or before format version 4."""
    map_change_low: float | None = None
    """Lower end of the 95 % interval of the change, ``map_percent`` minus ``fp32_map_percent``, from a paired bootstrap
    over the videos. Where the interval contains 0, they do not tell the change from chance."""
    map_change_high: float | None = None
    """Upper end of that interval."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that is known about a bundle."""

    format_version: int
    versions: Mapping[str, str]
    """Versions of the packages that made it, by name."""
    source: Source
    channels: int
    """C, the width of features and embeddings."""
    heads: int
    """H of the cross-adaptation; a prompt's queries are H*C wide."""
    temporal_scale: int
    """T at which the network was trained, in snippets."""
    decoder: str
    """The decoder to use by default."""
    text_encoder: TextEncoderSpec
    graphs: Mapping[str, GraphSpec]
    """By file name."""
    parity: tuple[ParityRecord, ...]
    quantization: tuple[QuantizationRecord, ...]
    files: Mapping[str, FileRecord]
    """Every file of the bundle except manifest and signature, by name."""
    recipe: FeatureRecipe = UNKNOWN_RECIPE
    """How the features were made that the network was trained on; what is None is unknown."""
    feature_statistics: FeatureStatistics | None = None
    """What these features look like; None if neither the training nor the export saw them."""
    vision: VisionSpec | None = None
    """The vision tower; None for a bundle without one, which takes features only."""
    reading_score: ReadingScore | None = None
    """The score from which on F1 is best; None if it was not measured on validation videos."""
    mask_nodes: int | None = None
    """How many nodes a gap between two trained rows of the mask kernel has where only some rows of the masks are
    computed, see ``stale_runtime.decoding.mask_interpolation``; None to compute all of them at any length."""
    approximation: ApproximationRecord | None = None
    """What was verified about the approximate localizer; None for a bundle without one."""

    def __post_init__(self) -> None:
        for name in ("channels", "heads", "temporal_scale"):
            if not 1 <= getattr(self, name) <= LARGEST_AXIS:
                raise ValueError(f"{name} is {reprlib.repr(getattr(self, name))}, expected 1 to {LARGEST_AXIS}")
        if self.mask_nodes is not None and not 2 <= self.mask_nodes <= MOST_NODES:
            raise ValueError(f"mask_nodes is {reprlib.repr(self.mask_nodes)}, expected 2 to {MOST_NODES}")
        if self.feature_statistics is not None and len(self.feature_statistics.direction) != self.channels:
            raise ValueError(
                f"feature_statistics are of features {len(self.feature_statistics.direction)} wide, expected "
                f"{self.channels}"
            )

    def graph(self, file: str) -> GraphSpec:
        """The interface of a graph.

        Raises:
            BundleError: the manifest does not say it.
        """
        if file not in self.graphs:
            raise BundleError(f"{layout.MANIFEST}: does not name the inputs and outputs of {file}; {COPY_AGAIN}")
        return self.graphs[file]

    @property
    def feature_check(self) -> FeatureCheck:
        """What tells features of another kind apart from those that the network was trained on."""
        return FeatureCheck(recipe=self.recipe, statistics=self.feature_statistics)

    @property
    def sha256(self) -> str:
        """The hash of ``manifest.json``, which identifies the whole bundle."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The content of ``manifest.json``, which includes a digest of itself."""
        content = asdict(self)
        for name in _added_after(self.format_version, _ADDED):
            del content[name]
        for name in _added_after(self.format_version, _ADDED_TO_QUANTIZATION):
            for record in content["quantization"]:
                del record[name]
        rest = (json.dumps(content, indent=1, allow_nan=False) + "\n").removeprefix("{\n")
        return (_seal(rest.encode()) + rest).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read ``manifest.json``.

        Raises:
            BundleVersionError: it has another format version.
            ChecksumError: it is damaged or was edited.
            BundleError: it is not a manifest.
        """
        try:
            content = json.loads(data, object_pairs_hook=_refuse_repetitions)
            json.dumps(content, ensure_ascii=False, allow_nan=False).encode()  # raises for lone surrogates, NaN
        except (ValueError, RecursionError):
            raise _damaged() from None
        if not isinstance(content, dict) or not isinstance(content.get("format_version"), int):
            raise BundleError(f"{layout.MANIFEST}: has no format_version, so it is not from stale-edge; {COPY_AGAIN}")
        version = content["format_version"]
        if not _OLDEST_VERSION <= version <= FORMAT_VERSION:
            raise BundleVersionError(
                f"{layout.MANIFEST}: format_version {version}, this version of stale-edge reads {_OLDEST_VERSION} to "
                f"{FORMAT_VERSION}; update stale-edge, or ask whoever made the bundle to export it again"
            )
        if data[:_SEAL_LENGTH] != _seal(data[_SEAL_LENGTH:]).encode():
            raise _damaged()
        del content["manifest_sha256"]
        content = _complete(content, version, _ADDED)
        if isinstance(records := content.get("quantization"), list):
            content["quantization"] = [_complete(record, version, _ADDED_TO_QUANTIZATION) for record in records]
        try:
            return build(cls, content)
        except ValueError as problem:
            raise BundleError(f"{layout.MANIFEST}: {problem}; {COPY_AGAIN}") from None


def _added_after(version: int, added: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The parts that newer versions of the format have, and their values in a bundle that lacks them."""
    return {name: value for since, parts in added.items() if since > version for name, value in parts.items()}


def _complete(content: Any, version: int, added: Mapping[int, Mapping[str, Any]]) -> Any:
    """An object of a bundle with the parts that newer versions of the format have.

    Raises:
        BundleError: it has such a part already.
    """
    parts = _added_after(version, added)
    if not isinstance(content, dict) or not parts:
        return content
    if repeated := sorted(parts.keys() & content.keys()):
        raise BundleError(f"{layout.MANIFEST}: has {repeated[0]} in format_version {version}; {COPY_AGAIN}")
    return {**content, **parts}


def _seal(rest: bytes) -> str:
    return _SEAL % hashlib.sha256(b"{\n" + rest).hexdigest()


def _refuse_repetitions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict. Repeated names are refused, because some readers take the first and some the last."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name is repeated")
    return content


def _damaged() -> ChecksumError:
    return ChecksumError(f"{layout.MANIFEST}: damaged or edited by hand; {COPY_AGAIN}")
