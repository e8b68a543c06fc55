"""From a trained network to a verified bundle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stale_export.bundle_writer import write_bundle
from stale_export.calibration import Calibration, graph_inputs, read_calibration
from stale_export.graph_builder import serialize
from stale_export.localizer_graph import cross_queries, localizer_model, localizer_spec
from stale_export.parity import compare_localizer, compare_text_encoder, draw_features, localizer_cases
from stale_export.quantization import QuantizedGraph, Quantizer
from stale_export.schemes import TARGETS, bits_for
from stale_export.text_graph import DeployedTextEncoder, text_encoder_model
from stale_export.text_graph import text_encoder_spec as text_graph_spec
from stale_export.text_quantization import lowest_cosine, quantize_text_encoder
from stale_export.torch_quantization import torch_backends
from stale_export.validation_gate import ValidationVideos, read_validation
from stale_model import Stale, TrainedStale
from stale_model.checkpoints.clip import text_encoder_spec
from stale_runtime.bundle import layout
from stale_runtime.bundle.arrays import pack_arrays
from stale_runtime.bundle.manifest import FORMAT_VERSION, Manifest, QuantizationRecord, Source
from stale_runtime.decoding.decoders import DEFAULT_DECODER
from stale_runtime.errors import ExportError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.inference.bundle_check import replay_name
from stale_runtime.inference.localizer import EncodedPrompts, Outputs
from stale_runtime.inference.onnx_session import open_session
from stale_runtime.inference.text_encoder import Tokenizer
from stale_runtime.inputs.features import CLIP_NORM
from stale_runtime.inputs.prompts import Prompts

PACKAGES = ("stale-edge", "torch", "transformers", "onnx", "onnxscript", "onnxruntime", "numpy", "tokenizers")
_SELFTEST_PROMPTS = 8

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Int8Options:
    """How the int8 graphs are made and proved."""

    calibration: Path | None = None
    """Folder of training features; without it ``ort-int8`` is the dynamic graph."""
    calibration_videos: int = 64
    calibration_seed: int = 0
    annotations: Path | None = None
    """Of the videos that mAP is measured on; without it nothing is proved."""
    annotations_subset: str = "validation"
    validation_features: Path | None = None
    """Folder of their features."""
    max_map_drop: float = 0.5
    """In percent of mAP."""
    target: str = "portable"
    """One of ``TARGETS``."""
    weight_bits: int | None = None
    """None for what the target takes."""
    text_precision: str = "fp32"
    """``fp32`` or ``int8``."""

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"target {self.target!r}, expected one of {', '.join(TARGETS)}")
        if self.text_precision not in ("fp32", "int8"):
            raise ValueError(f"text_precision {self.text_precision!r}, expected fp32 or int8")
        if (self.annotations is None) != (self.validation_features is None):
            raise ValueError("annotations and validation_features go together; give both, or neither")
        if self.calibration_videos < 1:
            raise ValueError(f"calibration_videos {self.calibration_videos}, expected at least 1")
        if not self.max_map_drop >= 0:
            raise ValueError(f"max_map_drop {self.max_map_drop}, expected 0 percent of mAP or more")
        if self.weight_bits is not None and not 4 <= self.weight_bits <= 8:
            raise ValueError(f"weight_bits {self.weight_bits}, expected 4 to 8")
        bits_for(self.target, self.weight_bits)  # refuses those that saturate


DEFAULT_INT8 = Int8Options()


def export_bundle(
    trained: TrainedStale,
    prompts: Prompts,
    output: Path,
    *,
    int8: Int8Options = DEFAULT_INT8,
    sign: Callable[[Manifest], bytes] | None = None,
    say: Say,
) -> Manifest:
    """Export a trained network, verify the graphs, and write the bundle; whole, or not at all.

    Args:
        trained: network, text tower and tokenizer.
        prompts: class names whose embeddings the bundle carries.
        output: the bundle's folder; a bundle that is there is replaced.
        int8: how the int8 graphs are made and proved.
        sign: makes the bundle's signature, see ``stale_runtime.bundle.signatures``; None for a bundle without.
        say: told what is being done.

    Returns:
        The bundle's manifest.

    Raises:
        ExportError: a graph cannot be exported, differs from the network, or loses too much mAP.
        DatasetError: calibration or validation data cannot be used.
        PromptError: a class name is too long for the text tower.
        CheckpointError: the tokenizer does not fit.
        OSError: the bundle cannot be written.
    """
    network, tower = trained.network, trained.tower
    if not layout.SHORTEST <= network.config.temporal_scale <= layout.LONGEST:
        raise ExportError(
            f"trained at T={network.config.temporal_scale}, expected {layout.SHORTEST} to {layout.LONGEST} snippets; "
            "train it so"
        )
    validation = _validation(network, int8)
    calibration = _calibration(network, int8, validation, say)
    spec = text_encoder_spec(trained.clip)
    texts = spec.fill(prompts.names)
    tokenizer = Tokenizer(trained.clip.tokenizer_json, spec)
    ids = torch.from_numpy(tokenizer(texts, prompts.places))
    suffixes = tokenizer.suffixes(prompts.names, prompts.places)

    say(f"embedding {len(texts)} prompts")
    embeddings = _embed(trained, ids)
    queries = cross_queries(network, embeddings)
    vectors = torch.cat([embeddings, queries], dim=1)

    say("exporting the text encoder")
    text_spec = text_graph_spec(network.config.channels, network.config.heads)
    encoder = DeployedTextEncoder(tower, network, torch.tensor(spec.prefix))
    text_model = serialize(text_encoder_model(encoder, text_spec))
    say("exporting the localizer")
    localizer_name = layout.LOCALIZER_FP32
    localizer = serialize(localizer_model(network))

    say("comparing the graphs with the network")
    parity = [
        *compare_text_encoder(text_model, layout.TEXT_ENCODER, suffixes, embeddings, queries),
        *compare_localizer(
            localizer,
            localizer_name,
            network,
            embeddings,
            localizer_cases(network.config.temporal_scale, len(texts)),
        ),
    ]
    encoded = EncodedPrompts(prompts.names, embeddings.numpy(), queries.numpy())
    graphs = _int8_graphs(network, encoded, int8, calibration, validation, say)
    torch_files, torch_records = torch_backends(
        network, encoded, validation=validation, max_map_drop=int8.max_map_drop, say=say
    )
    text_model, text_records = _text_encoder(text_model, suffixes, embeddings, queries, int8, say)
    contents = {
        localizer_name: localizer,
        **{graph.record.file: graph.model for graph in graphs},
        **torch_files,
        layout.TEXT_ENCODER: text_model,
        layout.TOKENIZER: trained.clip.tokenizer_json,
        layout.PROMPTS: pack_arrays({"texts": np.array(texts), "vectors": vectors.numpy()}),
        layout.SELF_TEST: pack_arrays(
            _selftest(
                trained,
                prompts.names[:_SELFTEST_PROMPTS],
                embeddings[:_SELFTEST_PROMPTS],
                graphs,
                norm=calibration.norm if calibration is not None else CLIP_NORM,
            )
        ),
    }
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        versions={package: version(package) for package in PACKAGES},
        source=Source(format=trained.format, sha256=trained.sha256, size=trained.size),
        channels=network.config.channels,
        heads=network.config.heads,
        temporal_scale=network.config.temporal_scale,
        decoder=DEFAULT_DECODER,
        text_encoder=spec,
        graphs={
            **dict.fromkeys([localizer_name, *(graph.record.file for graph in graphs)], localizer_spec(network)),
            layout.TEXT_ENCODER: text_spec,
        },
        parity=tuple(parity),
        quantization=(*(graph.record for graph in graphs), *torch_records, *text_records),
        files={},
    )
    say(f"writing {output}")
    return write_bundle(output, manifest, contents, sign=sign)


def _validation(network: Stale, options: Int8Options) -> ValidationVideos | None:
    if options.annotations is None or options.validation_features is None:
        return None
    return read_validation(
        options.annotations,
        options.validation_features,
        subset=options.annotations_subset,
        channels=network.config.channels,
        length=network.config.temporal_scale,
    )


def _calibration(
    network: Stale, options: Int8Options, validation: ValidationVideos | None, say: Say
) -> Calibration | None:
    if options.calibration is None:
        return None
    return read_calibration(
        options.calibration,
        count=options.calibration_videos,
        seed=options.calibration_seed,
        unwanted=validation.features.keys() if validation is not None else (),
        channels=network.config.channels,
        length=network.config.temporal_scale,
        say=say,
    )


def _int8_graphs(
    network: Stale,
    prompts: EncodedPrompts,
    options: Int8Options,
    calibration: Calibration | None,
    validation: ValidationVideos | None,
    say: Say,
) -> list[QuantizedGraph]:
    """The graphs of ``ort-int8`` and ``ort-int8-dynamic``."""
    quantizer = Quantizer(
        network=network,
        prompts=prompts,
        target=options.target,
        weight_bits=options.weight_bits,
        measure=(lambda model: validation.measure(model, prompts)) if validation is not None else None,
        max_map_drop=options.max_map_drop,
        say=say,
    )
    say("quantizing the localizer")
    dynamic = quantizer.dynamic(layout.LOCALIZER_INT8_DYNAMIC)
    if calibration is not None:
        return [quantizer.static(layout.LOCALIZER_INT8, calibration), dynamic]
    say("no --calibration: ort-int8 is the dynamic graph")
    return [replace(dynamic, record=replace(dynamic.record, file=layout.LOCALIZER_INT8)), dynamic]


def _text_encoder(
    model: bytes,
    suffixes: Sequence[Sequence[int]],
    embeddings: torch.Tensor,
    queries: torch.Tensor,
    options: Int8Options,
    say: Say,
) -> tuple[bytes, tuple[QuantizationRecord, ...]]:
    """The text encoder in the precision that is asked for, and what there is to say of it."""
    if options.text_precision == "fp32":
        return model, ()
    say("quantizing the text encoder")
    quantized = quantize_text_encoder(model, layout.TEXT_ENCODER, target=options.target)
    cosine = lowest_cosine(quantized.model, layout.TEXT_ENCODER, suffixes, embeddings, queries)
    say(f"{layout.TEXT_ENCODER}: embeddings have a cosine of at least {cosine:.4f} with those of float")
    return quantized.model, (quantized.record,)


def _embed(trained: TrainedStale, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([trained.tower(batch) for batch in ids.split(64)])  # (K, C)


def _selftest(
    trained: TrainedStale,
    names: Sequence[str],
    embeddings: torch.Tensor,
    graphs: Sequence[QuantizedGraph],
    *,
    norm: float,
) -> dict[str, NDArray[np.generic]]:
    """Inputs and outputs of the PyTorch network and of the int8 graphs, for ``stale-run --self-test``."""
    network = trained.network
    features = draw_features(network, 1, network.config.temporal_scale, norm=norm)
    with torch.no_grad():
        localization = network.localize(features, network.with_background(embeddings))
    prompts = EncodedPrompts(tuple(names), embeddings.numpy(), cross_queries(network, embeddings).numpy())
    backends = {b.file: b.name for b in LOCALIZER_BACKENDS.values() if b.engine == "onnxruntime"}
    replayed: dict[str, NDArray[np.generic]] = {}
    for graph in graphs:
        session = open_session(graph.model, name=graph.record.file, threads=1)
        outputs = session.run(Outputs._fields, graph_inputs(features[0].numpy(), prompts))
        for output, value in zip(Outputs._fields, outputs, strict=True):
            replayed[replay_name(backends[graph.record.file], output)] = value[0]
    return {
        "names": np.array(names),
        "features": features[0].numpy(),
        "embeddings": embeddings.numpy(),
        "queries": prompts.queries,
        "cas_logits": localization.cas_logits[0].numpy(),
        "action_masks": localization.action_masks[0].numpy(),
        **replayed,
    }
