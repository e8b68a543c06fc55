"""OpenVINO sessions on the same ONNX files, for CPUs that it is faster on."""

import io
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import openvino
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager

from stale_runtime.bundle.onnx_safety import refuse_unsafe
from stale_runtime.errors import BackendError, BundleError

_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
_INTEGERS = ("i8", "u8")


class OpenVinoSession:
    """A graph compiled for the CPU, with the part of ``onnxruntime.InferenceSession`` that a localizer needs."""

    def __init__(
        self,
        model: bytes,
        *,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        threads: int,
        precision: str,
        integer_layers: int,
    ) -> None:
        """Compile.

        Args:
            model: an ONNX file's content.
            name: how messages call it.
            inputs: names of all that it will be fed.
            outputs: names of all that it gives.
            threads: threads an operator may use.
            precision: ``fp32``, ``int8`` or ``bf16``, of what the graph itself does not quantize.
            integer_layers: products with weights that have to be computed in integers.

        Raises:
            BundleError: OpenVINO cannot load it, or it has other inputs or outputs.
            BackendError: OpenVINO would compute layers in float.
        """
        refuse_unsafe(model, name)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }
        try:
            reader = FrontEndManager().load_by_framework("onnx")  # and no other format, which nobody looked through
            graph = reader.convert(reader.load(io.BytesIO(model)))
            self._compiled = openvino.Core().compile_model(graph, "CPU", settings)
        except Exception as problem:  # its exceptions share no base of their own
            text = " ".join(str(problem).split())[-200:]
            raise BundleError(
                f"{name}: OpenVINO cannot load it ({text}); export the bundle again, or take an ort backend"
            ) from problem
        names = tuple(
            {port.get_any_name() for port in ports} for ports in (self._compiled.inputs, self._compiled.outputs)
        )
        if names != (set(inputs), set(outputs)):
            raise BundleError(f"{name}: not the inputs and outputs of a localizer; export the bundle again")
        found_layers = _integer_layers(self._compiled)
        if found_layers < integer_layers:
            raise BackendError(
                f"{name}: OpenVINO computes {found_layers} of {integer_layers} layers in integers here; take an ort "
                "backend"
            )
        self._local = threading.local()

    def run(self, output_names: Sequence[str], inputs: Mapping[str, NDArray[Any]], /) -> list[NDArray[Any]]:
        """The outputs, in the order of their names."""
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()  # which serves one thread at a time
        results = self._local.request.infer(inputs, share_inputs=True)
        return [results[name] for name in output_names]


def has_bf16() -> bool:
    """Whether this CPU computes in bfloat16; OpenVINO falls back to float32 without a word."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _integer_layers(compiled: "openvino.CompiledModel") -> int:
    """Matrix products with weights that are computed in integers."""
    layers = (node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops())
    return sum(
        info["layerType"].astype(str) == "FullyConnected" and info["runtimePrecision"].astype(str) in _INTEGERS
        for info in layers
    )
