"""Counting the multiplications of an ONNX graph by running it.

Sizes inside the graph depend on the data, and some nodes run once for each tile of a video, so what is counted is what
ONNX Runtime's profiler sees on one input.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
from numpy.typing import NDArray

from stale_runtime.errors import BenchmarkError

WEIGHT_INPUT = {
    "Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1,
    "QLinearConv": 3,
}  # fmt: skip
"""Convolutions, and the index of the input that is their kernel."""
PRODUCTS = frozenset({"MatMul", "Gemm", "FusedMatMul", "FusedGemm"})
INTEGER = frozenset(
    {
        "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul", "DynamicQuantizeMatMul", "QGemm",
        "ConvInteger", "QLinearConv",
    }
)  # fmt: skip
"""Operators of ONNX and of ONNX Runtime that multiply 8-bit integers."""

Shape = Sequence[int]


class Macs(NamedTuple):
    """Multiply-accumulates of a forward pass."""

    total: int
    int8: int

    @property
    def int8_share(self) -> float:
        """Share of the multiply-accumulates that is done in int8."""
        return self.int8 / self.total if self.total else 0.0


def count_onnx(model: bytes | Path, inputs: Mapping[str, NDArray[Any]], folder: Path) -> Macs:
    """Count the multiply-accumulates of matrix products and convolutions on an input.

    The total is counted in the graph as it is written, before ONNX Runtime fuses nodes into its own. The integer ones
    are counted in the graph as it is executed, because a node that is quantized in the file may still run in float.

    Args:
        model: content of an ONNX file, or the path of one whose weights may be in another file beside it.
        inputs: the graph's inputs by name.
        folder: where profiles are written, and removed again.
    """
    levels = onnxruntime.GraphOptimizationLevel
    written = _executed(model, inputs, folder, levels.ORT_DISABLE_ALL)
    executed = _executed(model, inputs, folder, levels.ORT_ENABLE_ALL)
    return Macs(
        total=sum(node_macs(*node) for node in written),
        int8=sum(node_macs(*node) for node in executed if node[0] in INTEGER),
    )


def node_macs(operator: str, inputs: Sequence[Shape], output: Shape) -> int:
    """Multiply-accumulates of one execution of a node; 0 if it is neither a matrix product nor a convolution.

    Args:
        operator: type of the node.
        inputs: shapes of its inputs.
        output: shape of its first output.
    """
    if operator in WEIGHT_INPUT:
        weight = inputs[WEIGHT_INPUT[operator]]  # (channels out, channels in of the group, kernel...)
        return math.prod(output) * math.prod(weight[1:])
    if operator in PRODUCTS or operator in INTEGER:
        left = inputs[0]
        is_matrix = len(output) >= len(left) > 1
        inner = math.prod(left[-2:]) // output[-2] if is_matrix else left[-1]  # a left matrix may be transposed
        return math.prod(output) * inner
    return 0


def _executed(
    model: bytes | Path, inputs: Mapping[str, NDArray[Any]], folder: Path, level: Any
) -> Iterator[tuple[str, list[Shape], Shape]]:
    """Type, input shapes and output shape of each node, once for each time that it ran."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights have no shape
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, dict(inputs))
    profile = Path(session.end_profiling())
    try:
        events = json.loads(profile.read_bytes())
    except ValueError as problem:  # ONNX Runtime does not report that the disk was full
        raise BenchmarkError(f"{folder}: no room for ONNX Runtime's profile; free some, or set TMPDIR") from problem
    finally:
        profile.unlink()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            arguments = event["args"]
            ins, outs = (_shapes(arguments[key]) for key in ("input_type_shape", "output_type_shape"))
            if outs:
                yield arguments["op_name"], ins, outs[0]


def _shapes(entries: Sequence[Mapping[str, Shape]]) -> list[Shape]:
    return [shape for entry in entries for shape in entry.values()]
