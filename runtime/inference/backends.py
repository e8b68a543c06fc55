"""What can run a bundle's localizer graph: ONNX Runtime, or OpenVINO where it is installed."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import Manifest
from stale_runtime.errors import BackendError
from stale_runtime.inference.onnx_session import open_session, require_interface

BACKENDS: Mapping[str, str] = {
    "ort-fp32": "localizer.fp32.onnx",
    "ort-int8": "localizer.int8.onnx",
    "ort-int8-dynamic": "localizer.int8-dynamic.onnx",
    "openvino-fp32": "localizer.fp32.onnx",
    "openvino-bf16": "localizer.fp32.onnx",
    "openvino-int8": "localizer.int8.onnx",
}
"""The graph that each backend runs."""


class Session(Protocol):
    """A graph, loaded."""

    def run(self, output_names: Sequence[str], inputs: Mapping[str, NDArray[Any]], /) -> Sequence[NDArray[Any]]:
        """The outputs, in the order of their names."""


def backend_problem(backend: str, manifest: Manifest) -> BackendError | None:
    """Why a backend cannot run a bundle's graph on this machine; None if it can."""
    if not backend.startswith("openvino-"):
        return None
    if find_spec("openvino") is None:
        return BackendError(f"{backend}: OpenVINO is not installed; pip install 'stale-edge[openvino]'")
    if backend == "openvino-bf16":
        from stale_runtime.inference.openvino_session import has_bf16

        if not has_bf16():
            return BackendError(f"{backend}: this CPU has no bfloat16 arithmetic; take openvino-fp32")
    kinds = {record.file: record.kind for record in manifest.quantization}
    if kinds.get(BACKENDS[backend]) == "dynamic":
        return BackendError(
            f"{backend}: OpenVINO would compute a dynamically quantized graph in float; export it with --calibration"
        )
    return None


def open_backend(
    backend: str, bundle: Bundle, *, inputs: Sequence[str], outputs: Sequence[str], threads: int
) -> Session:
    """Load a bundle's localizer graph.

    Args:
        backend: one of ``BACKENDS``.
        bundle: holds the graph.
        inputs: names of all that it will be fed.
        outputs: names of all that it gives.
        threads: threads an operator may use.

    Raises:
        BackendError: the backend cannot run here.
        BundleError: there is no graph for it, it cannot be loaded, or has other inputs or outputs.
    """
    problem = backend_problem(backend, bundle.manifest)
    if problem is not None:
        raise problem
    name = BACKENDS[backend]
    model = bundle.read(name)
    if backend.startswith("openvino-"):
        from stale_runtime.inference.openvino_session import OpenVinoSession

        quantized = {record.file: record.integer_operators_found for record in bundle.manifest.quantization}
        return OpenVinoSession(
            model,
            name=name,
            inputs=inputs,
            outputs=outputs,
            threads=threads,
            precision=backend.removeprefix("openvino-"),
            integer_layers=quantized.get(name, 0),
        )
    session = open_session(model, name=name, threads=threads)
    require_interface(session, inputs, outputs, name)
    return cast(Session, session)


def default_backend(manifest: Manifest) -> str:
    """The fastest backend of ONNX Runtime whose mAP the bundle proves."""
    proved = {record.file for record in manifest.quantization if record.map_percent is not None}
    return "ort-int8" if BACKENDS["ort-int8"] in proved else "ort-fp32"
