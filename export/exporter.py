"""From a trained network to a verified bundle: the stages of an export, in order."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from stale_export.bundle_writer import record_files, write_bundle
from stale_export.calibration import Calibration
from stale_export.embedded_prompts import EmbeddedPrompts, embed_prompts
from stale_export.export_data import (
    choose_statistics,
    find_validation_footage,
    read_calibration_videos,
    read_validation_videos,
)
from stale_export.export_task import ExportTask
from stale_export.fast_gate import FastGate, FastGraph
from stale_export.fast_localizer import fast_spec
from stale_export.graph_builder import serialize
from stale_export.graph_choice import ALL_GRAPHS, check_graphs, left_out
from stale_export.int8_options import Int8Options
from stale_export.localizer_graph import localizer_model, localizer_spec
from stale_export.mask_nodes import choose_mask_nodes
from stale_export.parity import compare_localizer, compare_text_encoder, localizer_cases
from stale_export.quantization import QuantizedGraph, Quantizer
from stale_export.say import Say
from stale_export.self_test_recording import NO_VISION, record_self_test
from stale_export.stages import Stages
from stale_export.text_graph import DeployedTextEncoder, text_encoder_model, text_graph_spec
from stale_export.text_quantization import lowest_cosine, quantize_text_encoder
from stale_export.torch_quantization import NO_TORCH_BACKENDS, make_torch_backends
from stale_export.validation_gate import MapGate, ValidationVideos
from stale_export.validation_record import record_map_change, record_reading_score
from stale_export.vision_export import ExportedVision, export_vision
from stale_export.vision_validation import (
    AnnotatedFootage,
    EmbeddedFootage,
    embed_footage,
    validate_vision,
)
from stale_model import TrainedStale
from stale_model.checkpoints.clip import text_encoder_spec
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import (
    FORMAT_VERSION,
    GraphSpec,
    Manifest,
    ParityRecord,
    QuantizationRecord,
    Source,
)
from stale_runtime.decoding.decoders import DEFAULT_DECODER
from stale_runtime.errors import ExportError, QuantizationError
from stale_runtime.inference.backends import default_backend
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inputs.feature_statistics import FeatureStatistics
from stale_runtime.inputs.features import CLIP_NORM
from stale_runtime.inputs.prompts import Prompts
from stale_runtime.version import __version__

PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "numpy", "tokenizers")
"""Packages whose versions the manifest records besides our own."""
DEFAULT_INT8 = Int8Options()


def export_bundle(
    trained: TrainedStale,
    prompts: Prompts,
    output: str | os.PathLike[str],
    *,
    int8: Int8Options = DEFAULT_INT8,
    vision: str | None = None,
    graphs: Collection[str] = ALL_GRAPHS,
    sign: Callable[[Manifest], bytes] | None = None,
    say: Say,
    stages: Stages | None = None,
) -> Manifest:
    """Export a trained network, verify the graphs, and write the bundle, completely or not at all.

    Args:
        trained: network, text tower and tokenizer.
        prompts: class names whose embeddings the bundle carries.
        output: the bundle's folder; an existing bundle is replaced.
        int8: how the int8 graphs are made and checked.
        vision: the vision tower that the bundle carries, see ``export_vision``; None for none.
        graphs: keys of ``GRAPH_FILES``; the bundle gets these graphs only. Float graphs that it does not get are
            compared with the network all the same, because the int8 graphs are made from them.
        sign: makes the bundle's signature, see ``stale_runtime.bundle.signatures``; None for an unsigned bundle.
        say: called with one line about each result and warning.
        stages: shows which stage the export is in; None to say their names, too.

    Returns:
        The bundle's manifest.

    Raises:
        ExportError: a graph that stale-run loads cannot be exported, differs from the network, or loses too much mAP.
        DatasetError, FeatureError: calibration or validation data cannot be used.
        PromptError: a class name is too long for the text tower.
        CheckpointError: the tokenizer does not fit the text tower, or the vision tower cannot be used.
        RecipeError: the folder of the vision tower cannot be used, or its recipe does not suffice for videos to
            validate on.
        MissingPackageError: there are validation videos, and the extra ``video`` is not installed.
        ValueError: there are validation videos, and no vision tower; or a bundle with these graphs could not be used.
        OSError: the bundle cannot be written.
    """
    check_graphs(graphs, vision=vision is not None)
    unwanted = left_out(graphs)
    export = ExportTask(
        trained=trained,
        text_spec=text_encoder_spec(trained.clip),
        int8=int8,
        say=say,
        stages=stages or Stages.said_by(say),
    )
    validation, footage = read_validation_videos(export, prompts), find_validation_footage(export, vision, prompts)
    calibration = read_calibration_videos(export, validation, footage)
    tower = _export_vision(export, vision)
    export.stages.enter(f"embedding {len(prompts.names)} prompts")
    embedded = embed_prompts(trained, prompts, export.text_spec)
    embedded_footage = _embed_footage(export, tower, footage)
    exported = _export_graphs(export)
    mask_nodes = choose_mask_nodes(export.network)
    parity = _compare_graphs(export, exported, embedded, mask_nodes)
    if embedded_footage is not None and tower is not None:
        tower = _validate_vision(export, tower, embedded_footage, exported.localizer, embedded.encoded)
        validation = validation or embedded_footage.in_float
    gate = _make_gate(export, validation, embedded.encoded)
    quantized = _quantize_localizer(export, embedded.encoded, calibration, gate, unwanted)
    fast = _approximate_localizer(export, exported.localizer, quantized, embedded.encoded, calibration, gate, graphs)
    approximation = None if fast is None else fast.approximation
    localizers = (*quantized, *filter(None, [fast]))
    torch_backends = NO_TORCH_BACKENDS
    if not {layout.LOCALIZER_TORCH, layout.LOCALIZER_TORCH_INT8} <= unwanted:
        export.stages.enter("making the localizers for PyTorch")
        torch_backends = make_torch_backends(export.network, gate, say=say)
    text_encoder = _quantize_text_encoder(export, exported.text_encoder, embedded)
    norm = calibration.norm if calibration is not None else CLIP_NORM
    tower = tower.without(unwanted) if tower is not None else None
    contents = {
        layout.LOCALIZER_FP32: exported.localizer,
        **{graph.record.file: graph.model for graph in localizers},
        **torch_backends.files,
        layout.TEXT_ENCODER: exported.text_encoder if text_encoder is None else text_encoder.model,
        layout.TOKENIZER: trained.clip.tokenizer_json,
        layout.PROMPTS: embedded.to_bytes(),
        layout.SELF_TEST: record_self_test(
            export.network,
            embedded,
            localizers,
            norm=norm,
            approximation=approximation,
            vision=tower.recording if tower is not None else NO_VISION,
        ),
        **(tower.files if tower is not None else {}),
    }
    contents = {file: content for file, content in contents.items() if file not in unwanted}
    records = (*(graph.record for graph in localizers), *torch_backends.records)
    records += () if text_encoder is None else (text_encoder.record,)
    records = tuple(record for record in records if record.file in contents)
    manifest = _describe(export, exported, parity, records, choose_statistics(export, calibration), contents)
    manifest = replace(manifest, mask_nodes=mask_nodes, approximation=approximation)
    if gate is not None:
        export.stages.enter("validating graph by graph")
        manifest = _add_validation(export, manifest, gate, exported.localizer, quantized, fast)
    if tower is not None:
        manifest = _add_vision(manifest, tower)
    export.stages.enter(f"writing {output}")
    return write_bundle(Path(output), manifest, contents, sign=sign)


@dataclass(frozen=True, kw_only=True)
class _FloatGraphs:
    """The exported graphs, before quantization."""

    localizer: bytes
    localizer_spec: GraphSpec
    text_encoder: bytes
    text_encoder_spec: GraphSpec


def _embed_footage(
    export: ExportTask, tower: ExportedVision | None, footage: AnnotatedFootage | None
) -> EmbeddedFootage | None:
    if tower is None or footage is None:
        return None
    if layout.VISION_ENCODER_INT8 not in tower.files and export.int8.validation_features is not None:
        export.say("there is no int8 vision tower to compare on --validate-videos, so these are not read")
        return None
    config = export.network.config
    return embed_footage(
        footage, tower, channels=config.channels, length=config.temporal_scale, say=export.say, stages=export.stages
    )


def _validate_vision(
    export: ExportTask, tower: ExportedVision, footage: EmbeddedFootage, localizer: bytes, prompts: EncodedPrompts
) -> ExportedVision:
    return validate_vision(
        tower,
        footage,
        localizer,
        prompts=prompts,
        max_drop=export.int8.max_map_drop,
        say=export.say,
        stages=export.stages,
    )


def _export_vision(export: ExportTask, vision: str | None) -> ExportedVision | None:
    if vision is None:
        return None
    channels, recipe = export.network.config.channels, export.trained.features.recipe
    return export_vision(
        vision, channels=channels, recipe=recipe, target=export.int8.target, say=export.say, stages=export.stages
    )


def _add_validation(
    export: ExportTask,
    manifest: Manifest,
    gate: MapGate,
    localizer: bytes,
    quantized: tuple[QuantizedGraph, ...],
    fast: FastGraph | None,
) -> Manifest:
    """Say how sure each change of mAP is, and from which score on detections are worth reading."""
    baseline = gate.find(localizer)
    found = {graph.record.file: gate.find(graph.model) for graph in quantized}
    if fast is not None and fast.found is not None:
        found[fast.record.file] = fast.found
    records = tuple(
        record_map_change(record, found[record.file], baseline, gate.videos.truth, say=export.say)
        if record.file in found
        else record
        for record in manifest.quantization
    )
    file = default_backend(manifest).file
    reading_score = record_reading_score(gate, file, found.get(file, baseline), say=export.say)
    return replace(manifest, quantization=records, reading_score=reading_score)


def _add_vision(manifest: Manifest, tower: ExportedVision) -> Manifest:
    return replace(
        manifest,
        vision=tower.spec,
        graphs={**manifest.graphs, **tower.graphs},
        quantization=(*manifest.quantization, *tower.records),
    )


def _export_graphs(export: ExportTask) -> _FloatGraphs:
    network = export.network
    export.stages.enter("exporting the text encoder")
    spec = text_graph_spec(network.config.channels, network.config.heads)
    encoder = DeployedTextEncoder(export.trained.tower, network, torch.tensor(export.text_spec.prefix))
    text_encoder = serialize(text_encoder_model(encoder, spec))
    export.stages.enter("exporting the localizer")
    return _FloatGraphs(
        localizer=serialize(localizer_model(network)),
        localizer_spec=localizer_spec(network),
        text_encoder=text_encoder,
        text_encoder_spec=spec,
    )


def _compare_graphs(
    export: ExportTask, graphs: _FloatGraphs, prompts: EmbeddedPrompts, mask_nodes: int | None
) -> tuple[ParityRecord, ...]:
    export.stages.enter("comparing the graphs with the network")
    network = export.network
    cases = localizer_cases(network.config.temporal_scale, len(prompts.names), mask_nodes)
    return (
        *compare_text_encoder(graphs.text_encoder, layout.TEXT_ENCODER, prompts),
        *compare_localizer(graphs.localizer, layout.LOCALIZER_FP32, network, prompts.embeddings, cases, mask_nodes),
    )


def _make_gate(export: ExportTask, validation: ValidationVideos | None, prompts: EncodedPrompts) -> MapGate | None:
    if validation is None:
        return None
    return MapGate(videos=validation, prompts=prompts, max_drop=export.int8.max_map_drop, watch=export.stages.watch)


def _quantize_localizer(
    export: ExportTask,
    prompts: EncodedPrompts,
    calibration: Calibration | None,
    gate: MapGate | None,
    unwanted: Collection[str],
) -> tuple[QuantizedGraph, ...]:
    """The graphs of ``ort-int8`` and ``ort-int8-dynamic``, as far as they are wanted."""
    files = [file for file in (layout.LOCALIZER_INT8, layout.LOCALIZER_INT8_DYNAMIC) if file not in unwanted]
    if not files:
        return ()
    export.stages.enter("quantizing the localizer")
    quantizer = Quantizer(
        network=export.network,
        target=export.int8.target,
        weight_bits=export.int8.weight_bits,
        gate=gate,
        say=export.say,
        watch=export.stages.watch,
    )
    made = []
    if layout.LOCALIZER_INT8 in files and calibration is not None:
        made.append(quantizer.static(layout.LOCALIZER_INT8, calibration, prompts))
        files.remove(layout.LOCALIZER_INT8)
    elif layout.LOCALIZER_INT8 in files:
        export.say("no --calibration: ort-int8 is the dynamic graph")
    if files:
        dynamic = quantizer.dynamic(files[-1])
        made += [replace(dynamic, record=replace(dynamic.record, file=file)) for file in files]
    return tuple(made)


def _approximate_localizer(
    export: ExportTask,
    localizer: bytes,
    quantized: tuple[QuantizedGraph, ...],
    prompts: EncodedPrompts,
    calibration: Calibration | None,
    gate: MapGate | None,
    graphs: Collection[str],
) -> FastGraph | None:
    """The graph of ``ort-fast``; None if it is not wanted, or cannot be had and was not asked for by name.

    Raises:
        ExportError: it was asked for by name and cannot be had.
    """
    if "ort-fast" not in graphs:
        return None
    asked = set(graphs) != set(ALL_GRAPHS)
    if calibration is None:
        problem = "no --calibration: no ort-fast, which is checked on training videos"
        if asked:
            raise ExportError(f"--graphs ort-fast: {problem}; give --calibration FOLDER, or leave it out")
        export.say(problem)
        return None
    export.stages.enter("approximating the localizer")
    proved = [g.model for g in quantized if g.record.file == layout.LOCALIZER_INT8 and g.record.map_percent is not None]
    fast_gate = FastGate(
        network=export.network,
        calibration=calibration,
        prompts=prompts,
        exact=localizer,
        guarding=proved[0] if proved else localizer,
        target=export.int8.target,
        weight_bits=export.int8.weight_bits,
        gate=gate,
        say=export.say,
        watch=export.stages.watch,
    )
    try:
        return fast_gate.make()
    except QuantizationError as problem:
        if asked:
            raise
        export.say(str(problem))
        return None


def _quantize_text_encoder(export: ExportTask, model: bytes, prompts: EmbeddedPrompts) -> QuantizedGraph | None:
    """The text encoder in int8; None if it is to stay in float."""
    if export.int8.text_precision == "fp32":
        return None
    export.stages.enter("quantizing the text encoder")
    quantized = quantize_text_encoder(model, layout.TEXT_ENCODER, target=export.int8.target)
    cosine = lowest_cosine(quantized.model, layout.TEXT_ENCODER, prompts)
    export.say(f"{layout.TEXT_ENCODER}: cosine of int8 and float embeddings at least {cosine:.4f}")
    return quantized


def _describe(
    export: ExportTask,
    graphs: _FloatGraphs,
    parity: tuple[ParityRecord, ...],
    records: tuple[QuantizationRecord, ...],
    statistics: FeatureStatistics | None,
    contents: Mapping[str, bytes],
) -> Manifest:
    trained, config = export.trained, export.network.config
    localizers = (layout.LOCALIZER_FP32, layout.LOCALIZER_INT8, layout.LOCALIZER_INT8_DYNAMIC)
    specs = {
        **dict.fromkeys(localizers, graphs.localizer_spec),
        layout.LOCALIZER_FAST: fast_spec(export.network),
        layout.TEXT_ENCODER: graphs.text_encoder_spec,
    }
    return Manifest(
        format_version=FORMAT_VERSION,
        versions={"stale-edge": __version__, **{package: version(package) for package in PACKAGES}},
        source=Source(format=trained.format, sha256=trained.sha256, size=trained.size),
        channels=config.channels,
        heads=config.heads,
        temporal_scale=config.temporal_scale,
        decoder=DEFAULT_DECODER,
        text_encoder=export.text_spec,
        graphs={file: spec for file, spec in specs.items() if file in contents},
        parity=parity,
        quantization=records,
        files=record_files(contents),
        recipe=trained.features.recipe,
        feature_statistics=statistics,
    )
