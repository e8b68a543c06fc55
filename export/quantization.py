"""The int8 graphs of a bundle: made, counted, and held against a limit of mAP."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx

from stale_export.calibration import TAILS, Activations, Calibration, logit_errors
from stale_export.graph_builder import FLOAT, serialize
from stale_export.localizer_graph import LINEARS, localizer_model
from stale_export.schemes import DynamicScheme, Scheme, bits_for
from stale_export.validation_gate import holds, require_proof
from stale_model import Stale
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.errors import QuantizationError
from stale_runtime.inference.localizer import EncodedPrompts
from stale_runtime.system.workspace import workspace

INTEGER_OPERATORS = ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "MatMulInteger")
"""What ONNX Runtime multiplies integers with."""
COMPARED = 16
"""Calibration videos that range methods are compared on."""

Measure = Callable[[bytes], float]
"""The mAP of a localizer graph, in percent."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class QuantizedGraph:
    """An int8 graph and how it came about."""

    model: bytes
    record: QuantizationRecord


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """Makes int8 graphs of one network."""

    network: Stale
    prompts: EncodedPrompts
    target: str = "portable"
    weight_bits: int | None = None
    """None for what the target takes."""
    measure: Measure | None = None
    """Without it nothing is held against a limit, and the graphs count as not verified."""
    max_map_drop: float = 0.5
    """In percent of mAP."""
    say: Say = field(default=lambda text: None)

    def __post_init__(self) -> None:
        bits_for(self.target, self.weight_bits)  # refuses those that saturate

    @property
    def bits(self) -> int:
        """Of a weight."""
        return bits_for(self.target, self.weight_bits)

    def dynamic(self, file: str) -> QuantizedGraph:
        """The graph that needs no calibration.

        Raises:
            QuantizationError: ONNX Runtime does not compute it in integers, or mAP drops beyond the limit.
        """
        schemes = {linear: DynamicScheme(weight_bits=self.bits) for linear in LINEARS}
        return self._finish(file, "dynamic", schemes, None, None)

    def static(self, file: str, calibration: Calibration) -> QuantizedGraph:
        """The graph with calibrated ranges, by the method that deviates least on the calibration videos.

        Raises:
            QuantizationError: as ``dynamic``, or activations are not finite.
        """
        activations = Activations(self.network, calibration, self.prompts)
        candidates = {method: activations.schemes(method, self.bits) for method in TAILS}
        models = [self._model(schemes) for schemes in candidates.values()]
        videos = list(calibration.features.values())[:COMPARED]
        errors = dict(zip(candidates, logit_errors(models, self._float_model, videos, self.prompts), strict=True))
        method = min(errors, key=errors.__getitem__)
        self.say(f"{file}: ranges by {method}, class activations off by {errors[method]:.3f} (root mean square)")
        return self._finish(file, "static", candidates[method], method, calibration)

    def _finish(
        self,
        file: str,
        kind: str,
        schemes: Mapping[str, Scheme],
        method: str | None,
        calibration: Calibration | None,
    ) -> QuantizedGraph:
        quantized, scores = self._repaired(file, schemes)
        model = self._model(quantized)
        found = count_integer_operators(model)
        if found != len(quantized):
            raise QuantizationError(
                f"{file}: ONNX Runtime computes {found} of {len(quantized)} layers in integers; nothing was written"
            )
        record = QuantizationRecord(
            file=file,
            kind=kind,
            target=self.target,
            weight_bits=self.bits,
            integer_operators_expected=len(quantized),
            integer_operators_found=found,
            float_layers=tuple(linear for linear in LINEARS if linear not in quantized),
            range_method=method,
            calibration_videos=tuple(sorted(calibration.features)) if calibration else (),
            calibration_seed=calibration.seed if calibration else None,
            map_percent=scores[0] if scores else None,
            fp32_map_percent=scores[1] if scores else None,
        )
        return QuantizedGraph(model=model, record=record)

    def _repaired(
        self, file: str, schemes: Mapping[str, Scheme]
    ) -> tuple[Mapping[str, Scheme], tuple[float, float] | None]:
        """Return layers to float, the most harmful first, until mAP holds; and the mAP then, beside float's."""
        if self.measure is None:
            return schemes, None
        require_proof(file, self._exact, self.max_map_drop)
        score = self.measure(self._model(schemes))
        while not holds(score, self._exact, self.max_map_drop):
            trials = {
                linear: {name: scheme for name, scheme in schemes.items() if name != linear} for linear in schemes
            }
            scores = {linear: self.measure(self._model(trial)) for linear, trial in trials.items()}
            table = ", ".join(f"{linear} {value:.2f}" for linear, value in scores.items())
            worst = max(scores, key=scores.__getitem__)
            if len(schemes) == 1:
                raise QuantizationError(
                    f"{file}: mAP {score:.2f} against {self._exact:.2f} in float, expected a drop of at most "
                    f"{self.max_map_drop}, and no layer can stay in integers (with each alone in float: {table}); "
                    "nothing was written"
                )
            lost = f"mAP {score:.2f} against {self._exact:.2f}"
            self.say(f"{file}: {lost}; back to float: {worst} (with each alone: {table})")
            schemes, score = trials[worst], scores[worst]
        return schemes, (score, self._exact)

    @cached_property
    def _float_model(self) -> bytes:
        return self._model(FLOAT)

    @cached_property
    def _exact(self) -> float:
        """MAP of the float graph, in percent."""
        assert self.measure is not None
        return self.measure(self._float_model)

    def _model(self, schemes: Mapping[str, Scheme]) -> bytes:
        return serialize(localizer_model(self.network, schemes))


def count_integer_operators(model: bytes) -> int:
    """Matrix products that ONNX Runtime computes in integers, counted in the graph that it really runs.

    A graph may say that it is quantized and be computed in float: what counts is what is left when ONNX Runtime has
    optimized it.
    """
    import onnxruntime

    with workspace() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(folder / "optimized.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(options.optimized_model_filepath)
    counts = Counter(node.op_type for node in optimized.graph.node)
    return sum(counts[operator] for operator in INTEGER_OPERATORS)
