"""Ways to run a bundle's localizer graph: with ONNX Runtime, or with OpenVINO if it is installed."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, cast

from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.manifest import Manifest
from stale_runtime.bundle.onnx_session import GraphLimits, Session, open_session, require_interface
from stale_runtime.errors import COPY_AGAIN, BackendError, BundleError, MissingPackageError, StaleError

_CPU_LISTS = ("/proc/cpuinfo", "/sys/devices/system/cpu")


@dataclass(frozen=True, kw_only=True)
class LocalizerBackend:
    """One way to run a bundle's localizer."""

    name: str
    """What ``--backend`` takes."""
    file: str
    """The graph's file in the bundle."""
    engine: Literal["onnxruntime", "openvino"]
    """What runs the graph."""
    precision: Literal["fp32", "bf16", "int8"]
    """Type of number in which products with weights are computed."""


LOCALIZER_BACKENDS: Mapping[str, LocalizerBackend] = {
    backend.name: backend
    for backend in (
        LocalizerBackend(name="ort-fp32", file=layout.LOCALIZER_FP32, engine="onnxruntime", precision="fp32"),
        LocalizerBackend(name="ort-int8", file=layout.LOCALIZER_INT8, engine="onnxruntime", precision="int8"),
        LocalizerBackend(
            name="ort-int8-dynamic", file=layout.LOCALIZER_INT8_DYNAMIC, engine="onnxruntime", precision="int8"
        ),
        LocalizerBackend(name="ort-fast", file=layout.LOCALIZER_FAST, engine="onnxruntime", precision="int8"),
        LocalizerBackend(name="openvino-fp32", file=layout.LOCALIZER_FP32, engine="openvino", precision="fp32"),
        LocalizerBackend(name="openvino-bf16", file=layout.LOCALIZER_FP32, engine="openvino", precision="bf16"),
        LocalizerBackend(name="openvino-int8", file=layout.LOCALIZER_INT8, engine="openvino", precision="int8"),
    )
}
"""By name."""


def backend_problem(backend: LocalizerBackend, manifest: Manifest) -> StaleError | None:
    """Why a backend cannot run a bundle's graph on this machine; None if it can."""
    if backend.file not in manifest.files:
        return _missing_graph(backend, manifest)
    if backend.file == layout.LOCALIZER_FAST:
        return _guard_problem(backend, manifest)
    if backend.engine != "openvino":
        return None
    if find_spec("openvino") is None:
        return MissingPackageError.for_extra(f"{backend.name} needs OpenVINO", "openvino")
    if sys.platform == "linux" and not any(map(os.path.exists, _CPU_LISTS)):
        return BackendError(
            f"{backend.name}: without {' and '.join(_CPU_LISTS)}, OpenVINO would wait for ever; mount /proc, or use an "
            "ort backend"
        )
    if backend.precision == "bf16":
        from stale_runtime.inference.openvino_session import has_bf16

        if not has_bf16():
            return BackendError(f"{backend.name}: this CPU has no bfloat16 arithmetic; use openvino-fp32")
    if backend.precision == "int8" and manifest.format_version >= 5:  # before, attention was in float anyway
        return BackendError(
            f"{backend.name}: OpenVINO would compute the attention of this int8 graph in float, and take longer than "
            "ort-int8; use an ort backend, or openvino-fp32"
        )
    kinds = {record.file: record.kind for record in manifest.quantization}
    if kinds.get(backend.file) == "dynamic":
        return BackendError(
            f"{backend.name}: OpenVINO would compute a dynamically quantized graph in float; use an ort backend, or a "
            "bundle that was exported with --calibration"
        )
    return None


def open_backend(backend: LocalizerBackend, bundle: Bundle, *, threads: int, working_bytes: int) -> Session:
    """Load a bundle's localizer graph.

    Args:
        backend: one of ``LOCALIZER_BACKENDS``.
        bundle: contains the graph.
        threads: threads an operator may use.
        working_bytes: as in ``GraphLimits``; OpenVINO has no such limit.

    Raises:
        BackendError: the backend cannot run on this machine, or the bundle has no graph for it but for others.
        BundleError: the bundle has no graph at all, or the graph cannot be loaded or has other inputs or outputs.
    """
    problem = backend_problem(backend, bundle.manifest)
    if problem is not None:
        raise problem
    spec = bundle.manifest.graph(backend.file)
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (spec.inputs, spec.outputs))
    model = bundle.read(backend.file)
    if backend.engine == "openvino":
        from stale_runtime.inference.openvino_session import OpenVinoSession

        quantized = {record.file: record.integer_operators_found for record in bundle.manifest.quantization}
        return OpenVinoSession(
            model,
            name=backend.file,
            inputs=inputs,
            outputs=outputs,
            threads=threads,
            precision=backend.precision,
            integer_layers=quantized.get(backend.file, 0),
        )
    # The approximate graph is written in the operators that it is to be computed in.
    written_out = backend.file == layout.LOCALIZER_FAST
    limits = GraphLimits(working_bytes=working_bytes, loops=not written_out, optimized=not written_out)
    session = open_session(model, name=backend.file, threads=threads, limits=limits)
    require_interface(session, inputs, outputs, backend.file)
    return cast(Session, session)


def default_backend(manifest: Manifest) -> LocalizerBackend:
    """The fastest backend of ONNX Runtime whose mAP the manifest says was measured, else fp32.

    If the bundle lacks that graph, the default is the first backend of ONNX Runtime in ``LOCALIZER_BACKENDS`` whose
    graph is there.
    """
    fast = LOCALIZER_BACKENDS["ort-fast"]
    if fast.file in _measured(manifest) and backend_problem(fast, manifest) is None:
        return fast
    return exact_backend(manifest)


def exact_backend(manifest: Manifest) -> LocalizerBackend:
    """The default without the approximate graph, which leaves to it what it is too far off for itself."""
    best = LOCALIZER_BACKENDS["ort-int8" if layout.LOCALIZER_INT8 in _measured(manifest) else "ort-fp32"]
    present = _exact_backends(manifest)
    return best if best in present or not present else present[0]


def _exact_backends(manifest: Manifest) -> list[LocalizerBackend]:
    """The backends of ONNX Runtime whose graphs the bundle has, except the approximate one."""
    return [
        backend
        for backend in LOCALIZER_BACKENDS.values()
        if backend.file in manifest.files and backend.engine == "onnxruntime" and backend.file != layout.LOCALIZER_FAST
    ]


def _measured(manifest: Manifest) -> set[str]:
    """Files of the quantized graphs whose mAP was measured."""
    return {record.file for record in manifest.quantization if record.map_percent is not None}


def _guard_problem(backend: LocalizerBackend, manifest: Manifest) -> StaleError | None:
    """Why the approximate graph of a bundle has no guard; None if it has one."""
    record = manifest.approximation
    if record is None or record.file != backend.file:
        return BundleError(f"{layout.MANIFEST}: does not say how exact {backend.file} is; {COPY_AGAIN}")
    if not _exact_backends(manifest):
        return BackendError(
            f"{backend.name}: the bundle has no exact graph for videos that need one; take a bundle that was exported "
            "with --graphs ort-fast ort-int8"
        )
    return None


def _missing_graph(backend: LocalizerBackend, manifest: Manifest) -> StaleError:
    present = [other for other in LOCALIZER_BACKENDS.values() if other.file in manifest.files]
    if not present:
        return BundleError(f"the bundle has no graph for any of {', '.join(LOCALIZER_BACKENDS)}; {COPY_AGAIN}")
    problems = {other.name: backend_problem(other, manifest) for other in present}
    usable = [name for name, problem in problems.items() if problem is None]
    if not usable:
        return next(problem for problem in problems.values() if problem is not None)
    return BackendError(
        f"{backend.name}: the bundle was exported without {backend.file}; give {' or '.join(usable)}, or a bundle that "
        "has it"
    )
