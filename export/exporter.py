"""From a trained network to a verified bundle: the stages of an export, in order."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from stale_export.bundle_writer import record_files, write_bundle
from stale_export.calibration import Calibration, read_calibration
from stale_export.embedded_prompts import EmbeddedPrompts, embed_prompts
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
from stale_export.validation_gate import MapGate, ValidationVideos, read_validation
from stale_export.validation_record import record_map_change, record_reading_score
from stale_export.vision_export import ExportedVision, export_vision
from stale_export.vision_validation import (
    AnnotatedFootage,
    EmbeddedFootage,
    embed_footage,
    find_footage,
    validate_vision,
)
from stale_model import Stale, TrainedStale
from stale_model.checkpoints.clip import text_encoder_spec
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import (
    FORMAT_VERSION,
    GraphSpec,
    Manifest,
    ParityRecord,
    QuantizationRecord,
    Source,
    TextEncoderSpec,
)
from stale_runtime.decoding.decoders import DEFAULT_DECODER
from stale_runtime.errors import ExportError, QuantizationError
from stale_runtime.evaluation.ground_truth import read_ground_truth
from stale_runtime.evaluation.video_info import read_video_info
from stale_runtime.inference.backends import default_backend
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inputs.feature_check import FeatureCheck
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
    export = _Export(
        trained=trained,
        text_spec=text_encoder_spec(trained.clip),
        int8=int8,
        say=say,
        stages=stages or Stages.said_by(say),
    )
    validation, footage = _read_validation(export, prompts), _find_footage(export, vision, prompts)
    calibration = _read_calibration(export, validation, footage)
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
    approximate = () if fast is None else (QuantizedGraph(model=fast.model, record=fast.record),)
    torch_backends = NO_TORCH_BACKENDS
    if not {layout.LOCALIZER_TORCH, layout.LOCALIZER_TORCH_INT8} <= unwanted:
        export.stages.enter("making the localizers for PyTorch")
        torch_backends = make_torch_backends(export.network, gate, say=say)
    text_encoder = _quantize_text_encoder(export, exported.text_encoder, embedded)
    norm = calibration.norm if calibration is not None else CLIP_NORM
    tower = tower.without(unwanted) if tower is not None else None
    contents = {
        layout.LOCALIZER_FP32: exported.localizer,
        **{graph.record.file: graph.model for graph in (*quantized, *approximate)},
        **torch_backends.files,
        layout.TEXT_ENCODER: exported.text_encoder if text_encoder is None else text_encoder.model,
        layout.TOKENIZER: trained.clip.tokenizer_json,
        layout.PROMPTS: embedded.to_bytes(),
        layout.SELF_TEST: record_self_test(
            export.network,
            embedded,
            (*quantized, *approximate),
            norm=norm,
            approximation=None if fast is None else fast.approximation,
            vision=tower.recording if tower is not None else NO_VISION,
        ),
        **(tower.files if tower is not None else {}),
    }
    contents = {file: content for file, content in contents.items() if file not in unwanted}
    records = (*(graph.record for graph in (*quantized, *approximate)), *torch_backends.records)
    records += () if text_encoder is None else (text_encoder.record,)
    records = tuple(record for record in records if record.file in contents)
    manifest = _describe(export, exported, parity, records, _choose_statistics(export, calibration), contents)
    manifest = replace(manifest, mask_nodes=mask_nodes, approximation=None if fast is None else fast.approximation)
    if gate is not None:
        export.stages.enter("validating graph by graph")
        manifest = _add_validation(export, manifest, gate, exported.localizer, quantized, fast)
    if tower is not None:
        manifest = _add_vision(manifest, tower)
    export.stages.enter(f"writing {output}")
    return write_bundle(Path(output), manifest, contents, sign=sign)


@dataclass(frozen=True, kw_only=True)
class _Export:
    """What every stage needs."""

    trained: TrainedStale
    text_spec: TextEncoderSpec
    """How class names become token ids of the trained text tower."""
    int8: Int8Options
    say: Say
    stages: Stages

    def __post_init__(self) -> None:
        T = self.network.config.temporal_scale
        if not layout.SHORTEST <= T <= layout.LONGEST:
            raise ExportError(
                f"the checkpoint was trained at T={T}, expected {layout.SHORTEST} to {layout.LONGEST} snippets; train "
                "it again at such a length"
            )

    @property
    def network(self) -> Stale:
        return self.trained.network


@dataclass(frozen=True, kw_only=True)
class _FloatGraphs:
    """The exported graphs, before quantization."""

    localizer: bytes
    localizer_spec: GraphSpec
    text_encoder: bytes
    text_encoder_spec: GraphSpec


def _read_validation(export: _Export, prompts: Prompts) -> ValidationVideos | None:
    options = export.int8
    if options.annotations is None or options.validation_features is None:
        return None
    export.stages.enter("reading the validation features")
    videos = read_validation(
        Path(options.annotations),
        Path(options.validation_features),
        subset=options.annotations_subset,
        video_info=Path(options.video_info) if options.video_info is not None else None,
        channels=export.network.config.channels,
        length=export.network.config.temporal_scale,
        say=export.say,
    )
    return replace(videos, truth=videos.truth.spelt_like(prompts.names))


def _find_footage(export: _Export, vision: str | None, prompts: Prompts) -> AnnotatedFootage | None:
    options = export.int8
    if options.annotations is None or options.validation_videos is None:
        return None
    if vision is None:
        raise ValueError("validation_videos without vision; give the vision tower that computes their features")
    return find_footage(
        Path(options.annotations),
        Path(options.validation_videos),
        subset=options.annotations_subset,
        video_info=Path(options.video_info) if options.video_info is not None else None,
        classes=prompts.names,
        say=export.say,
    )


def _embed_footage(
    export: _Export, tower: ExportedVision | None, footage: AnnotatedFootage | None
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
    export: _Export, tower: ExportedVision, footage: EmbeddedFootage, localizer: bytes, prompts: EncodedPrompts
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


def _read_calibration(
    export: _Export, validation: ValidationVideos | None, footage: AnnotatedFootage | None
) -> Calibration | None:
    options = export.int8
    if options.calibration is None:
        return None
    export.stages.enter("reading the calibration features")
    unwanted = {
        *(validation.features if validation is not None else ()),
        *(footage.paths if footage is not None else ()),
    }
    return read_calibration(
        Path(options.calibration),
        count=options.calibration_videos,
        seed=options.calibration_seed,
        unwanted=unwanted,
        durations_s=_read_known_durations(options) if options.annotations is not None else {},
        channels=export.network.config.channels,
        length=export.network.config.temporal_scale,
        say=export.say,
    )


def _export_vision(export: _Export, vision: str | None) -> ExportedVision | None:
    if vision is None:
        return None
    channels, recipe = export.network.config.channels, export.trained.features.recipe
    return export_vision(
        vision, channels=channels, recipe=recipe, target=export.int8.target, say=export.say, stages=export.stages
    )


def _add_validation(
    export: _Export,
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


def _choose_statistics(export: _Export, calibration: Calibration | None) -> FeatureStatistics | None:
    """What the features of the training look like: as the checkpoint says, else the calibration's."""
    trained = export.trained.features
    export.say(f"recipe of the training features: {trained.recipe.describe()}")
    if trained.statistics is None and calibration is None:
        export.say("no statistics of the features; with --calibration stale-run could warn of others")
    if calibration is None or trained.statistics is None:
        return trained.statistics if calibration is None else calibration.statistics
    check = FeatureCheck(recipe=trained.recipe, statistics=trained.statistics)
    problems = (check.problem_with(summary) for summary in calibration.summaries.values())
    if found := [problem for problem in problems if problem is not None]:
        export.say(
            f"warning: {len(found)} of {len(calibration.summaries)} videos of --calibration do not look like those of "
            f"the training: {found[0]}"
        )
    return trained.statistics


def _read_known_durations(options: Int8Options) -> dict[str, float]:
    """Seconds that videos last, by id, of all subsets of the annotations."""
    assert options.annotations is not None
    info = read_video_info(Path(options.video_info)) if options.video_info is not None else None
    videos = read_ground_truth(options.annotations, video_info=info).videos
    return {video: annotated.duration_s for video, annotated in videos.items() if annotated.duration_s}


def _export_graphs(export: _Export) -> _FloatGraphs:
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
    export: _Export, graphs: _FloatGraphs, prompts: EmbeddedPrompts, mask_nodes: int | None
) -> tuple[ParityRecord, ...]:
    export.stages.enter("comparing the graphs with the network")
    network = export.network
    cases = localizer_cases(network.config.temporal_scale, len(prompts.names), mask_nodes)
    return (
        *compare_text_encoder(graphs.text_encoder, layout.TEXT_ENCODER, prompts),
        *compare_localizer(graphs.localizer, layout.LOCALIZER_FP32, network, prompts.embeddings, cases, mask_nodes),
    )


def _make_gate(export: _Export, validation: ValidationVideos | None, prompts: EncodedPrompts) -> MapGate | None:
    if validation is None:
        return None
    return MapGate(videos=validation, prompts=prompts, max_drop=export.int8.max_map_drop, watch=export.stages.watch)


def _quantize_localizer(
    export: _Export,
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
    export: _Export,
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


def _quantize_text_encoder(export: _Export, model: bytes, prompts: EmbeddedPrompts) -> QuantizedGraph | None:
    """The text encoder in int8; None if it is to stay in float."""
    if export.int8.text_precision == "fp32":
        return None
    export.stages.enter("quantizing the text encoder")
    quantized = quantize_text_encoder(model, layout.TEXT_ENCODER, target=export.int8.target)
    cosine = lowest_cosine(quantized.model, layout.TEXT_ENCODER, prompts)
    export.say(f"{layout.TEXT_ENCODER}: cosine of int8 and float embeddings at least {cosine:.4f}")
    return quantized


def _describe(
    export: _Export,
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
