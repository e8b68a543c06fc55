"""Making the int8 localizer graphs of a bundle, counting their integer operators, and limiting their loss of mAP."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import onnx

from stale_export.calibration import CALIBRATED, TAILS, Activations, Calibration, logit_errors
from stale_export.graph_builder import FLOAT, serialize
from stale_export.integer_attention import INTEGER_OPERATORS_BY_LAYER, attention_schemes
from stale_export.localizer_graph import LAYERS, localizer_model
from stale_export.say import Say
from stale_export.schemes import VNNI_BITS, DynamicScheme, Scheme, bits_for
from stale_export.stages import Watch, unwatched
from stale_export.validation_gate import MapGate
from stale_model import Stale
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.errors import OutputError, QuantizationError
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.system.workspace import workspace

INTEGER_OPERATORS = ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "MatMulInteger")
"""ONNX Runtime's operators that multiply matrices of integers."""
COMPARED = 16
"""Calibration videos that the range methods are compared on."""


@dataclass(frozen=True, kw_only=True)
class QuantizedGraph:
    """An int8 graph and the manifest's record of it."""

    model: bytes
    record: QuantizationRecord


class _Repaired(NamedTuple):
    """The layers that stay in integers after others were returned to float."""

    schemes: Mapping[str, Scheme]
    """The layers in integers."""
    score: float | None
    """mAP in percent; None if it is not measured."""


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """Makes the int8 graphs of one network."""

    network: Stale
    """In evaluation mode."""
    target: str = "portable"
    """One of ``TARGETS``."""
    weight_bits: int | None = None
    """None for the largest number that is exact on the target."""
    gate: MapGate | None = None
    """Limits the loss of mAP; without it mAP is not measured, and the graphs do not count as verified."""
    say: Say
    watch: Watch = unwatched
    """Shows how many videos were calibrated on."""

    def __post_init__(self) -> None:
        bits_for(self.target, self.weight_bits)  # raises if products would saturate

    @property
    def bits(self) -> int:
        """Bits of a weight."""
        return bits_for(self.target, self.weight_bits)

    def dynamic(self, file: str) -> QuantizedGraph:
        """Make the graph that takes the ranges of activations from each video as it runs; it needs no calibration.

        Raises:
            QuantizationError: ONNX Runtime does not compute it in integers, or too much mAP is lost.
        """
        repaired = self._repair(file, dynamic_schemes(self.bits), ())
        model = self._model(repaired.schemes)
        return QuantizedGraph(model=model, record=self._record(file, "dynamic", model, repaired))

    def static(self, file: str, calibration: Calibration, prompts: EncodedPrompts) -> QuantizedGraph:
        """Make the graph with calibrated ranges, by the method that deviates least on the calibration videos.

        Raises:
            QuantizationError: as for ``dynamic``, or activations are not finite.
        """
        activations = Activations(self.network, calibration, prompts, watch=self.watch)
        by_video = attention_schemes(self.bits)
        candidates = {method: {**activations.schemes(method, self.bits), **by_video} for method in TAILS}
        models = [self._model(schemes) for schemes in candidates.values()]
        videos = list(calibration.features.values())[:COMPARED]
        errors = dict(zip(candidates, logit_errors(models, self._float_model, videos, prompts), strict=True))
        method = min(errors, key=errors.__getitem__)
        self.say(f"{file}: ranges by {method}, class activations off by {errors[method]:.3f} (root mean square)")
        remedies = (
            f"calibrate on more videos than these {len(calibration.features)}, see --calibration-videos",
            "leave out --calibration, and ort-int8 is the dynamic graph",
        )
        repaired = self._repair(file, candidates[method], remedies)
        model = self._model(repaired.schemes)
        record = self._record(file, "static", model, repaired, method=method, calibration=calibration)
        return QuantizedGraph(model=model, record=record)

    def _record(
        self,
        file: str,
        kind: str,
        model: bytes,
        repaired: _Repaired,
        *,
        method: str | None = None,
        calibration: Calibration | None = None,
    ) -> QuantizationRecord:
        """Count the integer operators of a finished graph, and describe how it was made.

        Raises:
            QuantizationError: ONNX Runtime does not compute all of its quantized layers in integers.
        """
        expected = sum(INTEGER_OPERATORS_BY_LAYER.get(layer, 1) for layer in repaired.schemes)
        found = count_integer_operators(model)
        if found != expected:
            raise QuantizationError(
                f"{file}: ONNX Runtime computes {found} of {expected} products in integers; nothing was written"
            )
        return QuantizationRecord(
            file=file,
            kind=kind,
            target=self.target,
            weight_bits=self.bits,
            integer_operators_expected=expected,
            integer_operators_found=found,
            float_layers=_float_layers(repaired.schemes),
            range_method=method,
            calibration_videos=tuple(sorted(calibration.features)) if calibration else (),
            calibration_seed=calibration.seed if calibration else None,
            map_percent=repaired.score,
            fp32_map_percent=self._exact if self.gate else None,
            validation_videos=len(self.gate.videos.features) if self.gate else None,
        )

    def _repair(self, file: str, schemes: Mapping[str, Scheme], remedies: Sequence[str]) -> _Repaired:
        """Return layers to float, the most harmful first, until the gate accepts the graph.

        Raises:
            QuantizationError: it accepts none; the message names the remedies.
        """
        if self.gate is None:
            return _Repaired(schemes, None)
        self.gate.require_meaning(file, self._exact)
        score = self.gate.measure(self._model(schemes))
        drops: dict[tuple[str, ...], float] = {}
        while not self.gate.accepts(score, self._exact):
            drops[_float_layers(schemes)] = self._exact - score
            trials = {
                linear: {name: scheme for name, scheme in schemes.items() if name != linear} for linear in schemes
            }
            scores = {linear: self.gate.measure(self._model(trial)) for linear, trial in trials.items()}
            table = ", ".join(f"{linear} {value:.2f}" for linear, value in scores.items())
            if len(schemes) == 1:
                raise QuantizationError(self._failure(file, drops, table, remedies))
            worst = max(scores, key=scores.__getitem__)
            self.say(
                f"{file}: mAP {score:.2f} against {self._exact:.2f} in float; back to float: {worst} (with each alone "
                f"in float: {table})"
            )
            schemes, score = trials[worst], scores[worst]
        return _Repaired(schemes, score)

    def _failure(self, file: str, drops: Mapping[tuple[str, ...], float], table: str, remedies: Sequence[str]) -> str:
        """Say that a graph loses too much, and what can be done: ``drops`` are by the layers that were in float."""
        assert self.gate is not None
        least = min(drops.values())
        limit = math.ceil(100 * least) / 100 if math.isfinite(least) else math.inf
        chosen = [*remedies]
        if limit < self._exact:  # else the check would prove nothing, see require_meaning
            layers = next(layers for layers, drop in drops.items() if drop <= limit)
            chosen.insert(
                0, f"give --max-map-drop {limit:.2f}, which accepts it with {', '.join(layers) or 'no layer'} in float"
            )
        if self.bits < VNNI_BITS:
            chosen.append(f"give weights more than {self.bits} bits, see --target and --weight-bits")
        chosen.append("leave out --validate, and stale-run uses ort-fp32 unless told otherwise")
        return (
            f"{file}: mAP {self._exact - least:.2f} against {self._exact:.2f} in float, a drop of {least:.3f} however "
            f"many layers return to float, expected at most {self.gate.max_drop} (with each alone in float: {table}); "
            f"{', or '.join(chosen)}; nothing was written"
        )

    @cached_property
    def _float_model(self) -> bytes:
        return self._model(FLOAT)

    @cached_property
    def _exact(self) -> float:
        """MAP of the float graph, in percent."""
        assert self.gate is not None
        return self.gate.measure(self._float_model)

    def _model(self, schemes: Mapping[str, Scheme]) -> bytes:
        return serialize(localizer_model(self.network, schemes))


def dynamic_schemes(weight_bits: int) -> dict[str, Scheme]:
    """The quantization of all layers by name, with ranges that are computed while the graph runs."""
    return {**dict.fromkeys(CALIBRATED, DynamicScheme(weight_bits=weight_bits)), **attention_schemes(weight_bits)}


def _float_layers(schemes: Mapping[str, Scheme]) -> tuple[str, ...]:
    return tuple(layer for layer in LAYERS if layer not in schemes)


def count_integer_operators(model: bytes) -> int:
    """Count the matrix products that ONNX Runtime computes in integers.

    A graph may contain quantized weights and still be computed in float. So the operators are counted in the graph
    that ONNX Runtime has optimized, which is the one that it runs.
    """
    import onnxruntime

    with workspace() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(folder / "optimized.onnx")
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # ONNX Runtime's exceptions have no common base of their own
            text = " ".join(str(problem).split())[:120]
            raise OutputError(
                f"{folder}: ONNX Runtime cannot write a temporary file there ({text}); make room, raise the limit on "
                "file sizes, or set TMPDIR to another folder"
            ) from problem
        optimized = onnx.load(options.optimized_model_filepath)
    return sum(node.op_type in INTEGER_OPERATORS for node in _all_nodes(optimized.graph))


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g)
