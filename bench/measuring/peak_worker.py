"""A worker that measures how many multiplications a second ONNX Runtime does here at most.

It multiplies 256 rows with a matrix of 512 x 512, the size of most products of the network, whose numbers fit into the
second cache of a core. The fastest of many products counts, because whatever else the machine does only makes them
slower.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from stale_bench.protocol import Answer, MeasurePeak, Peak, PeakJob, Question

ROWS, INNER, COLUMNS = 256, 512, 512
SECONDS = 0.4
"""How long each kind is repeated."""
OPSET, IR_VERSION = 18, 9


class ProductKind(NamedTuple):
    """A kind of matrix product."""

    operator: str
    types: tuple[Any, Any]
    """Types of the left and the right matrix."""
    constant: bool
    """Whether the right matrix is known when the graph is loaded, as weights are; in attention both change."""


KINDS = {
    "fp32": ProductKind("MatMul", (np.float32, np.float32), True),
    "fp32 of two activations": ProductKind("MatMul", (np.float32, np.float32), False),
    "int8": ProductKind("MatMulInteger", (np.uint8, np.int8), True),
    "int8 of two activations": ProductKind("MatMulInteger", (np.uint8, np.int8), False),
}
"""By the names under which they are reported."""


class PeakWorker:
    """Multiplies on the CPUs of its job."""

    def __init__(self, job: PeakJob) -> None:
        self._threads = job.threads

    def answer(self, question: Question[Any]) -> Answer:
        """Do what is asked."""
        if not isinstance(question, MeasurePeak):
            raise TypeError(f"a worker for peaks cannot answer {question}")
        return Peak(gmacs_per_s={name: self._measure(kind) for name, kind in KINDS.items()})

    def _measure(self, kind: ProductKind) -> float:
        """Billions of multiply-accumulates a second."""
        multiply = make_product(kind, self._threads)
        multiply()
        fastest_s, end = float("inf"), perf_counter() + SECONDS
        while (start := perf_counter()) < end:
            multiply()
            fastest_s = min(fastest_s, perf_counter() - start)
        return ROWS * INNER * COLUMNS / 1e9 / fastest_s


def make_product(kind: ProductKind, threads: int) -> Callable[[], Any]:
    """A function that multiplies two random matrices in ONNX Runtime, and returns a list with the product."""
    generator = np.random.default_rng(0)
    shapes = ((ROWS, INNER), (INNER, COLUMNS))
    left, right = (generator.integers(0, 100, shape).astype(t) for shape, t in zip(shapes, kind.types, strict=True))
    inputs = {"left": left} if kind.constant else {"left": left, "right": right}
    to_onnx = helper.np_dtype_to_tensor_dtype
    product = TensorProto.FLOAT if kind.operator == "MatMul" else TensorProto.INT32
    graph = helper.make_graph(
        [helper.make_node(kind.operator, ["left", "right"], ["product"])],
        "peak",
        [helper.make_tensor_value_info(name, to_onnx(array.dtype), array.shape) for name, array in inputs.items()],
        [helper.make_tensor_value_info("product", product, (ROWS, COLUMNS))],
        [numpy_helper.from_array(right, "right")] if kind.constant else [],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)
