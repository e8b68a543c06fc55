"""ONNX Runtime sessions; all options that affect speed or memory are set explicitly."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle.onnx_safety import refuse_unsafe
from stale_runtime.errors import COPY_AGAIN, BundleError

if TYPE_CHECKING:
    import onnxruntime

_NO_MEMORY = ("bad_alloc", "Failed to allocate memory")


class Session(Protocol):
    """A loaded graph."""

    def run(self, output_names: Sequence[str], inputs: Mapping[str, NDArray[Any]], /) -> Sequence[NDArray[Any]]:
        """The outputs, in the order of their names."""


def require_interface(
    session: "onnxruntime.InferenceSession", inputs: Sequence[str], outputs: Sequence[str], name: str
) -> None:
    """Make sure that a graph has exactly the inputs and outputs that are expected.

    Raises:
        BundleError: it does not.
    """
    found = {value.name for value in session.get_inputs()}, {value.name for value in session.get_outputs()}
    if found != (set(inputs), set(outputs)):
        got = f"{', '.join(sorted(found[0]))[:80]} to {', '.join(sorted(found[1]))[:80]}"
        expected = f"{', '.join(inputs)} to {', '.join(outputs)}"
        raise BundleError(f"{name}: a graph from {got}, expected one from {expected}; {COPY_AGAIN}")


def run_session(session: Session, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
    """Run a graph.

    Returns:
        Its outputs, in the order of their names.

    Raises:
        MemoryError: ONNX Runtime could not allocate enough memory.
        BundleError: the graph fails.
    """
    try:
        return session.run(outputs, inputs)
    except Exception as problem:  # ONNX Runtime's exceptions have no common base; only their text tells them apart
        if any(text in str(problem) for text in _NO_MEMORY):
            raise MemoryError("ONNX Runtime could not allocate enough") from problem
        text = " ".join(str(problem).split())[:200]
        raise BundleError(f"a graph fails while it runs ({text}); {COPY_AGAIN}") from problem


def checked_output(name: str, output: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An output of a graph, after making sure that it is finite float32 of the expected shape.

    Args:
        name: name of the graph, for messages.
        output: anything.
        shape: the expected shape.

    Raises:
        BundleError: it is something else.
    """
    if not isinstance(output, np.ndarray) or (output.dtype, output.shape) != (np.float32, shape):
        got = f"{output.dtype} {output.shape}" if isinstance(output, np.ndarray) else type(output).__name__
        raise BundleError(f"{name}: gives {got}, expected float32 {shape}; {COPY_AGAIN}")
    with np.errstate(all="ignore"):
        finite = np.isfinite(output.sum())  # also False for values so large that decoding them would overflow
    if not finite:
        raise BundleError(f"{name}: gives NaN or infinity; {COPY_AGAIN}")
    return output


def open_session(model: bytes, *, name: str, threads: int) -> "onnxruntime.InferenceSession":
    """Load a graph for the CPU.

    Args:
        model: an ONNX file's content.
        name: name of the graph, for messages.
        threads: threads an operator may use; more than ``available_threads`` gain nothing.

    Raises:
        BundleError: it is not an ONNX model, could do more than compute, or ONNX Runtime cannot load it.
    """
    import onnxruntime  # takes a tenth of a second, for which errors in other inputs need not wait

    refuse_unsafe(model, name)
    onnxruntime.disable_telemetry_events()  # builds for Windows ignore the variable that runtime/__init__.py sets
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = True  # without it, T=3000 takes 50 % more memory and is slower
    options.log_severity_level = 4  # errors are raised, no need to log them
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # the only format that refuse_unsafe reads
    try:
        return onnxruntime.InferenceSession(  # the fallback would repeat the same attempt, and print on stdout
            model, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as problem:  # ONNX Runtime's exceptions have no common base of their own
        text = " ".join(str(problem).split())[:200]
        raise BundleError(f"{name}: ONNX Runtime cannot load it ({text}); {COPY_AGAIN}") from problem
