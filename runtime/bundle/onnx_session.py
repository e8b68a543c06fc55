"""ONNX Runtime sessions; all options that affect speed or memory are set explicitly."""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stale_runtime.bundle.onnx_safety import refuse_unsafe
from stale_runtime.errors import COPY_AGAIN, BackendError, BundleError, StaleError
from stale_runtime.system.long_calls import stoppable

if TYPE_CHECKING:
    import onnxruntime

Processor: TypeAlias = Literal["cpu", "cuda"]
"""What runs a graph: the CPU, or a GPU of Nvidia's."""
_CUDA: Final = "CUDAExecutionProvider"
WEIGHT_COPIES = 20
"""Loading a graph takes up to so many times its file: weights (K, 1) are rearranged as (K, 16). Arenas do not limit
what loading takes, and if that is more than their limit they have none at all."""
_NO_MEMORY = ("bad_alloc", "Failed to allocate memory")
_ABOVE_LIMIT = re.compile(r"Available memory of \d+ is smaller than requested bytes of (\d+)")
_allocators = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class GraphLimits:
    """What a graph from elsewhere may do."""

    working_bytes: int
    """Memory that running it may take, in addition to ``WEIGHT_COPIES`` times its file."""
    loops: bool = False
    """Whether it may have ``Loop``, as a localizer has."""
    optimized: bool = True
    """Whether ONNX Runtime may rewrite it, which takes longer than anything else in loading it."""


TOWER_LIMITS = GraphLimits(working_bytes=2**30)
"""Of a text or vision tower. CLIP's text tower takes 80 MB for 256 prompts of 70 tokens."""


class Session(Protocol):
    """A loaded graph."""

    def run(
        self, output_names: Sequence[str], inputs: Mapping[str, NDArray[Any]], options: Any = None, /
    ) -> Sequence[NDArray[Any]]:
        """The outputs, in the order of their names; ``options`` are an ``onnxruntime.RunOptions``."""


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
    """Run a graph. A time limit (see ``time_limit``) and Ctrl-C stop it between two of its operators.

    Returns:
        Its outputs, in the order of their names.

    Raises:
        MemoryError: ONNX Runtime could not allocate enough memory.
        TimeLimitError: the time limit has passed.
        BundleError: the graph fails, or asks for more memory than ``open_session`` allowed.
    """
    import onnxruntime  # already loaded by the session

    options = onnxruntime.RunOptions()
    try:
        with stoppable(lambda: setattr(options, "terminate", True)):
            return session.run(outputs, inputs, options)
    except StaleError:
        raise
    except Exception as problem:  # ONNX Runtime's exceptions have no common base; only their text tells them apart
        if any(text in str(problem) for text in _NO_MEMORY):
            raise MemoryError("ONNX Runtime could not allocate enough") from problem
        if (asked := _ABOVE_LIMIT.search(str(problem))) is not None:
            raise BundleError(
                f"a graph asks for {int(asked[1]):,} bytes of memory in one step, which is more than its limit leaves; "
                f"{COPY_AGAIN}"
            ) from problem
        text = " ".join(str(problem).split())[:200]
        raise BundleError(f"a graph fails while it runs ({text}); {COPY_AGAIN}") from problem


def checked_output(name: str, output: Any, shape: tuple[int, ...], *, finite: bool = True) -> NDArray[np.float32]:
    """An output of a graph, after making sure that it is finite float32 of the expected shape.

    Args:
        name: name of the graph, for messages.
        output: anything.
        shape: the expected shape.
        finite: whether it has to be finite.

    Raises:
        BundleError: it is something else.
    """
    if not isinstance(output, np.ndarray) or (output.dtype, output.shape) != (np.float32, shape):
        got = f"{output.dtype} {output.shape}" if isinstance(output, np.ndarray) else type(output).__name__
        raise BundleError(f"{name}: gives {got}, expected float32 {shape}; {COPY_AGAIN}")
    if not finite:
        return output
    with np.errstate(all="ignore"):
        is_finite = np.isfinite(output.sum())  # also False for values so large that decoding them would overflow
    if not is_finite:
        raise BundleError(f"{name}: gives NaN or infinity; {COPY_AGAIN}")
    return output


def open_session(
    model: bytes, *, name: str, threads: int, limits: GraphLimits | None = None, processor: Processor = "cpu"
) -> "onnxruntime.InferenceSession":
    """Load a graph.

    Args:
        model: an ONNX file's content.
        name: name of the graph, for messages.
        threads: threads an operator may use; more than ``available_threads`` gain nothing.
        limits: what it may do; None for anything, which is for graphs that this process has made.
        processor: what runs it; the memory of a GPU is not limited.

    Raises:
        BundleError: it is not an ONNX model, could do more than compute, or ONNX Runtime cannot load it.
        BackendError: a GPU is asked for, and this ONNX Runtime cannot use one here.
    """
    import onnxruntime  # takes a tenth of a second, for which errors in other inputs need not wait

    refuse_unsafe(model, name, loops=limits is None or limits.loops)
    onnxruntime.disable_telemetry_events()  # builds for Windows ignore the variable that runtime/__init__.py sets
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # planned memory comes on top of what the first run took: 40 MB at T=3000
    options.enable_cpu_mem_arena = True  # without it, T=3000 takes 50 % more memory and is slower
    options.log_severity_level = 4  # errors are raised, no need to log them
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # the only format that refuse_unsafe reads
    if limits is not None and not limits.optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        if processor == "cuda":
            return _load_for_cuda(model, options)
        if limits is None:
            return _load(model, options)
        return _load_limited(model, options, limits.working_bytes + WEIGHT_COPIES * len(model))
    except BackendError:
        raise
    except Exception as problem:  # ONNX Runtime's exceptions have no common base of their own
        text = " ".join(str(problem).split())[:200]
        raise BundleError(f"{name}: ONNX Runtime cannot load it ({text}); {COPY_AGAIN}") from problem


def _load_for_cuda(model: bytes, options: "onnxruntime.SessionOptions") -> "onnxruntime.InferenceSession":
    """Load a graph for the first GPU that this process may use.

    Raises:
        BackendError: there is none, or ONNX Runtime would silently use the CPU instead.
    """
    import onnxruntime

    remedy = "install onnxruntime-gpu in place of onnxruntime, with its CUDA and cuDNN, or use the CPU"
    known = onnxruntime.get_available_providers()
    if _CUDA not in known:
        raise BackendError(f"ONNX Runtime {onnxruntime.__version__} has {', '.join(known)}, not {_CUDA}; {remedy}")
    session = _load(model, options, providers=(_CUDA, "CPUExecutionProvider"))
    if _CUDA not in session.get_providers():
        raise BackendError(f"ONNX Runtime {onnxruntime.__version__} cannot use a GPU here; {remedy}")
    return session


def _load(
    model: bytes, options: "onnxruntime.SessionOptions", *, providers: Sequence[str] = ("CPUExecutionProvider",)
) -> "onnxruntime.InferenceSession":
    import onnxruntime

    return onnxruntime.InferenceSession(
        model,
        options,
        providers=list(providers),
        enable_fallback=0,  # which would repeat the same attempt, and print on stdout
        disabled_optimizers=["ConstantFolding"],  # computes without limits; exported graphs have it done
    )


def _load_limited(
    model: bytes, options: "onnxruntime.SessionOptions", most_bytes: int
) -> "onnxruntime.InferenceSession":
    """Load a graph with an arena of its own, which never grows beyond a limit."""
    with _allocators:
        try:
            _register_arena(most_bytes)
        except RuntimeError:  # ONNX Runtime below 1.23 lets a process register one only
            return _load(model, options)
        try:
            options.add_session_config_entry("session.use_env_allocators", "1")
            return _load(model, options)
        finally:
            _register_arena(1)  # so that only the session holds its arena, and frees it


def _register_arena(most_bytes: int) -> None:
    """Have the sessions that ask for it share this arena from now on."""
    import onnxruntime

    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    info = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(info, onnxruntime.OrtArenaCfg({"max_mem": most_bytes}))
