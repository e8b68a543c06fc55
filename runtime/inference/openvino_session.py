"""OpenVINO sessions on the same ONNX files, for CPUs on which OpenVINO is faster."""

import io
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from numpy.typing import NDArray

from stale_runtime.bundle.onnx_safety import refuse_unsafe
from stale_runtime.errors import COPY_AGAIN, BackendError, BundleError, StaleError
from stale_runtime.system.long_calls import stoppable

# Importing OpenVINO would send an event to its makers, and write an id of this user to ~/intel. Without this package,
# which does that, it uses a stub of its own. A program that imports OpenVINO before us has decided otherwise.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402
from openvino.frontend import FrontEndManager  # noqa: E402

_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
_INTEGERS = ("i8", "u8")


class OpenVinoSession:
    """A graph compiled for the CPU, with the same ``run`` as an ``onnxruntime.InferenceSession``."""

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
        """Compile a graph.

        Args:
            model: an ONNX file's content.
            name: name of the graph, for messages.
            inputs: names of all its inputs.
            outputs: names of all its outputs.
            threads: threads an operator may use.
            precision: ``fp32``, ``int8`` or ``bf16``.
            integer_layers: how many products with weights must be computed in integers.

        Raises:
            BundleError: OpenVINO cannot load it, or it has other inputs or outputs.
            BackendError: OpenVINO would compute some of those layers in float.
        """
        refuse_unsafe(model, name)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }
        try:
            reader = FrontEndManager().load_by_framework("onnx")  # the only format that refuse_unsafe reads
            with stoppable(_cannot_be_stopped):
                graph = reader.convert(reader.load(io.BytesIO(model)))
                self._compiled = _core().compile_model(graph, "CPU", settings)
        except StaleError:
            raise
        except Exception as problem:  # OpenVINO's exceptions have no common base of their own
            text = " ".join(str(problem).split())[-200:]
            raise BundleError(
                f"{name}: OpenVINO cannot load it ({text}); use an ort backend, or {COPY_AGAIN}"
            ) from problem
        names = tuple(
            {port.get_any_name() for port in ports} for ports in (self._compiled.inputs, self._compiled.outputs)
        )
        if names != (set(inputs), set(outputs)):
            raise BundleError(f"{name}: not the inputs and outputs of a localizer; {COPY_AGAIN}")
        found_layers = _count_integer_layers(self._compiled)
        if found_layers < integer_layers:
            raise BackendError(
                f"{name}: OpenVINO computes {found_layers} of {integer_layers} layers in integers here; use an ort "
                "backend"
            )
        self._local = threading.local()

    def run(
        self, output_names: Sequence[str], inputs: Mapping[str, NDArray[Any]], _options: Any = None, /
    ) -> list[NDArray[Any]]:
        """The outputs, in the order of their names."""
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()  # serves one thread at a time
        results = self._local.request.infer(inputs, share_inputs=True)
        return [results[name] for name in output_names]


def _cannot_be_stopped() -> None:
    """OpenVINO has no way to stop compiling; and while it infers, cancelling the request changes nothing."""


def has_bf16() -> bool:
    """Whether this CPU computes in bfloat16; otherwise OpenVINO silently falls back to float32."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def _core() -> "openvino.Core":
    """What loads OpenVINO's part for the CPU, which then stays loaded until the process ends.

    That part gives the thread that loads it a stack for signals. It is freed with the last ``Core``, but if that is
    done by another thread, it is not taken back: a signal that Python handles, such as Ctrl-C, would be written there,
    which ends the process, or overwrites what is there by then.
    """
    return openvino.Core()


def _count_integer_layers(compiled: "openvino.CompiledModel") -> int:
    """How many matrix products with weights are computed in integers."""
    layers = (node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops())
    return sum(
        info["layerType"].astype(str) == "FullyConnected" and info["runtimePrecision"].astype(str) in _INTEGERS
        for info in layers
    )
