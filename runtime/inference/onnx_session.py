"""ONNX Runtime sessions, with everything that decides their speed and memory said explicitly."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle.onnx_safety import refuse_unsafe
from stale_runtime.errors import BundleError

if TYPE_CHECKING:
    import onnxruntime

_NO_MEMORY = ("bad_alloc", "Failed to allocate memory")


def require_interface(
    session: "onnxruntime.InferenceSession", inputs: Sequence[str], outputs: Sequence[str], name: str
) -> None:
    """Make sure that a graph has the inputs it will be fed, no other, and the outputs that will be fetched.

    Raises:
        BundleError: it does not.
    """
    found = {value.name for value in session.get_inputs()}, {value.name for value in session.get_outputs()}
    if found != (set(inputs), set(outputs)):
        got = f"{', '.join(sorted(found[0]))[:80]} to {', '.join(sorted(found[1]))[:80]}"
        expected = f"{', '.join(inputs)} to {', '.join(outputs)}"
        raise BundleError(f"{name}: a graph from {got}, expected one from {expected}; export the bundle again")


def run_session(
    session: "onnxruntime.InferenceSession", outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]
) -> list[Any]:
    """Run a graph.

    Raises:
        MemoryError: there was not enough for it.
        BundleError: it fails.
    """
    try:
        results: list[Any] = session.run(outputs, inputs)
    except Exception as problem:  # ONNX Runtime's exceptions share no base, and say in words which they are
        if any(text in str(problem) for text in _NO_MEMORY):
            raise MemoryError("ONNX Runtime found too little") from problem
        text = " ".join(str(problem).split())[:200]
        raise BundleError(f"a graph fails while it runs ({text}); export the bundle again") from problem
    return results


def checked_output(name: str, output: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An output of a graph, if it is what was to come out.

    Args:
        name: how messages call the graph.
        output: whatever came.
        shape: that it has to have.

    Raises:
        BundleError: it is no float32 of that shape, or holds NaN or infinity.
    """
    if not isinstance(output, np.ndarray) or (output.dtype, output.shape) != (np.float32, shape):
        got = f"{output.dtype} {output.shape}" if isinstance(output, np.ndarray) else type(output).__name__
        raise BundleError(f"{name}: gives {got}, expected float32 {shape}; export the bundle again")
    with np.errstate(all="ignore"):
        usable = np.isfinite(output.sum())  # which refuses what would overflow further on as well
    if not usable:
        raise BundleError(f"{name}: gives NaN or infinity; export the bundle again")
    return output


def open_session(model: bytes, *, name: str, threads: int) -> "onnxruntime.InferenceSession":
    """Load a graph for the CPU.

    Args:
        model: an ONNX file's content.
        name: how messages call it.
        threads: threads an operator may use; more than ``available_threads`` gain nothing.

    Raises:
        BundleError: it is no ONNX model, could do more than compute, or ONNX Runtime cannot load it.
    """
    import onnxruntime  # takes a tenth of a second, which reading a prompt file need not pay

    refuse_unsafe(model, name)
    onnxruntime.disable_telemetry_events()  # Windows' own builds read no variable (runtime/__init__.py)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = True  # without it the heap splinters: half as much again at T=3000, and slower
    options.log_severity_level = 4  # what goes wrong is raised as well
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # the format that was just looked through
    try:
        return onnxruntime.InferenceSession(  # its fallback tries the same again, and prints on stdout
            model, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as problem:  # ONNX Runtime's exceptions share no base of their own
        text = " ".join(str(problem).split())[:200]
        raise BundleError(f"{name}: ONNX Runtime cannot load it ({text}); export the bundle again") from problem
