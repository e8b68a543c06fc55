"""Writing an ONNX graph operator by operator."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stale_export.schemes import DynamicScheme, RowScheme, Scheme, StaticScheme, VideoScheme
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec

OPSET = 20
FLOAT: Mapping[str, Scheme] = {}
"""No layer is quantized."""
IR_VERSION = 10
"""Version of the file format that came with opset 20, so that ONNX Runtime from 1.17 on reads it."""


class RoundedRows(NamedTuple):
    """Names of the values that rows of numbers are rounded to."""

    bytes_: str
    """(R, M) of uint8."""
    step: str
    """() of float32, between two neighbouring bytes."""
    zero: str
    """() of uint8, the byte that stands for 0."""


class GraphBuilder:
    """Collects the nodes and weights of a graph. Values are referred to by their names, which are strings.

    >>> graph = GraphBuilder()
    >>> graph.name("y", graph.op("Relu", "x"))
    """

    def __init__(
        self, prefix: str = "", schemes: Mapping[str, Scheme] = FLOAT, *, outer: "GraphBuilder | None" = None
    ) -> None:
        """Begin an empty graph.

        Args:
            prefix: begins all names; it has to differ between a graph and its subgraphs.
            schemes: quantization of linear layers by their names, see ``linear``.
            outer: gets the weights of linear layers, so that its subgraphs can share them. It has to be the graph that
                this one becomes a subgraph of, because ONNX Runtime does not rearrange weights from farther outside,
                and is slower with them. None if this graph is to keep them.
        """
        self.prefix = prefix
        self._home: GraphBuilder = self if outer is None else outer
        self.linears: dict[str, str] = {}
        """Name of the value that each linear layer reads, by the layer's name."""
        self.schemes = schemes
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._running_one: str | None = None
        self._rounded_rows: dict[tuple[str, Scheme], tuple[str, str]] = {}

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Apply an operator that has one output.

        Args:
            operator: name of an operator of ONNX's default domain.
            inputs: names of values; an empty name leaves out an optional input.
            attributes: attributes of the operator.

        Returns:
            The name of the output.
        """
        output = f"{self.prefix}{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def ops(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Apply an operator with several outputs, and return their names."""
        name = f"{self.prefix}{operator}_{len(self._nodes)}"
        names = [f"{name}_{n}" for n in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, name=name, **attributes))
        return names

    def name(self, name: str, value: str) -> None:
        """Rename the output of the last operator, to make it an output of the graph."""
        node = self._nodes[-1]
        assert list(node.output) == [value], "only the last value can be renamed"
        node.output[0] = node.name = name

    def weight(self, name: str, values: NDArray[np.generic]) -> str:
        """Add a constant tensor and return its name."""
        name = self.prefix + name
        self._weights[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def linear(self, name: str, x: str, weights: NDArray[np.float32]) -> str:
        """Multiply by a weight matrix: in integers if there is a scheme for this layer, otherwise in float.

        Args:
            name: name of the layer.
            x: name of the input (..., M); with a ``VideoScheme`` of any shape that consists of rows of M numbers.
            weights: (M, N)

        Returns:
            The name of the product, (..., N) of float32; with a ``VideoScheme`` (rows, N).
        """
        self.linears[name] = x
        scheme = self.schemes.get(name)
        if scheme is None:
            return self.op("MatMul", x, self._home.weight(name, weights))
        rounded, scale = scheme.quantize(weights)  # (M, N) of int8, (N,)
        integers, step = self._home.weight(name, rounded), self._home.weight(f"{name}.scale", scale)
        if isinstance(scheme, DynamicScheme):
            return self._multiply_dynamically(x, integers, step)
        if isinstance(scheme, RowScheme):
            return self._multiply_rows(x, integers, step, scheme)
        if isinstance(scheme, VideoScheme):
            return self.multiply_rounded(self.round_rows(x, len(weights)), integers, step)
        assert isinstance(scheme, StaticScheme)
        byte_step = self.weight(f"{name}.input_scale", np.array(scheme.scale, np.float32))
        zero = self.weight(f"{name}.input_zero", np.array(scheme.zero_point, np.uint8))
        x = self.op("DequantizeLinear", self.op("QuantizeLinear", x, byte_step, zero), byte_step, zero)
        no_shift = self.weight(f"{name}.zero", np.zeros(len(scale), np.int8))
        return self.op("MatMul", x, self.op("DequantizeLinear", integers, step, no_shift, axis=1))

    def _multiply_dynamically(self, x: str, integers: str, step: str) -> str:
        """Quantize x (..., M) by its own range, and multiply by weights (M, N) with steps (N,) -> (..., N)."""
        bytes_, byte_step, zero = self.ops("DynamicQuantizeLinear", x, outputs=3)
        product = self.op("Cast", self.op("MatMulInteger", bytes_, integers, zero), to=onnx.TensorProto.FLOAT)
        return self.op("Mul", product, self.op("Mul", byte_step, step))

    def round_rows(self, x: str, width: int) -> RoundedRows:
        """Round x to bytes by its own range, and rearrange them in rows (R, width).

        ONNX Runtime joins rounding and multiplication where nothing lies between them, and some CPUs then round in
        another way. The rearrangement lies between them.
        """
        bytes_, step, zero = self.ops("DynamicQuantizeLinear", x, outputs=3)
        return RoundedRows(self.op("Reshape", bytes_, self.integers(-1, width)), step, zero)

    def multiply_rounded(self, rows: RoundedRows, integers: str, step: str) -> str:
        """Multiply rounded rows (R, M) by integers (M, N) with a step () or steps (N,) -> (R, N) of float32."""
        product = self.op("MatMulInteger", rows.bytes_, integers, rows.zero)
        return self.op("Mul", self.op("Cast", product, to=onnx.TensorProto.FLOAT), self.op("Mul", rows.step, step))

    def multiply_bytes(self, name: str, x: str, zero: int, weights: NDArray[np.float32]) -> str:
        """Like ``linear`` for an input that consists of bytes, which needs no rounding.

        Args:
            name: name of the layer.
            x: name of the input (..., M) of uint8.
            zero: the byte that stands for 0.
            weights: (M, N)

        Returns:
            The name of the product of ``x - zero`` and the weights, (..., N) of float32.
        """
        self.linears[name] = x
        scheme = self.schemes.get(name)
        if scheme is None:
            shifted = self.op("Sub", self.op("Cast", x, to=onnx.TensorProto.FLOAT), self.number(zero))
            return self.op("MatMul", shifted, self.weight(name, weights))
        rounded, scale = scheme.quantize(weights)  # (M, N) of int8, (N,)
        product = self.op("MatMulInteger", x, self.weight(name, rounded), self.byte(zero))
        product = self.op("Cast", product, to=onnx.TensorProto.FLOAT)
        return self.op("Mul", product, self.weight(f"{name}.scale", scale))

    def _multiply_rows(self, x: str, integers: str, step: str, scheme: RowScheme) -> str:
        """Quantize each row of x (R, M) by its own range, and multiply by weights (M, N) with steps (N,) -> (R, N)."""
        if (x, scheme) not in self._rounded_rows:
            self._rounded_rows[x, scheme] = self._round_rows(x, scheme)
        bytes_, row_steps = self._rounded_rows[x, scheme]  # (R, M) of uint8, (R,)
        product = self.op("MatMulInteger", bytes_, integers, self.byte(scheme.zero_point))
        product = self.op("Cast", product, to=onnx.TensorProto.FLOAT)
        # ONNX Runtime computes this far in one step, but only where it finds a factor of the whole input.
        product = self.op("Mul", product, self.op("Mul", self._one(x), step))
        return self.op("Mul", product, self.op("Unsqueeze", row_steps, self.integers(1)))

    def _round_rows(self, x: str, scheme: RowScheme) -> tuple[str, str]:
        """The bytes that stand for rows (R, M), and the step between two bytes in each row (R,)."""
        largest = self.op("ReduceMax", x, self.integers(1), keepdims=0)  # (R,)
        if scheme.lowest is None:
            largest = self.op("Max", largest, self.op("Neg", self.op("ReduceMin", x, self.integers(1), keepdims=0)))
        steps = self.op("Mul", largest, self.number(1 / (255 - scheme.zero_point)))
        steps = self.op("Max", steps, self.number(scheme.smallest_step))
        zeros = self.op("Expand", self.byte(scheme.zero_point), self.op("Shape", steps))
        return self.op("QuantizeLinear", x, steps, zeros, axis=0), steps

    def _one(self, x: str) -> str:
        """The number 1, (1,), in a form that ONNX Runtime does not compute in advance; x has rows."""
        if self._running_one is None:
            rows = self.op("Min", self.op("Shape", x, end=1), self.integers(1))
            self._running_one = self.op("Cast", rows, to=onnx.TensorProto.FLOAT)
        return self._running_one

    def byte(self, value: int) -> str:
        """The name of a constant () of uint8; equal values share one constant."""
        return self.weight(f"byte_{value}", np.array(value, np.uint8))

    def integers(self, *values: int) -> str:
        """The name of a constant (N,) of int64; equal values share one constant."""
        return self.weight("int_" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: int) -> str:
        """The name of a constant () of int64; equal values share one constant."""
        return self.weight(f"scalar_{value}", np.array(value, np.int64))

    def number(self, value: float) -> str:
        """The name of a constant () of float32; equal values share one constant."""
        return self.weight(f"float_{float(value)!r}", np.array(value, np.float32))

    def subgraph(self, outputs: Sequence[str]) -> onnx.GraphProto:
        """The nodes as a subgraph, for ``If`` and ``Loop``; it can read the values of the outer graph."""
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        return helper.make_graph(self._nodes, f"{self.prefix}graph", [], results, list(self._weights.values()))

    def loop(self, number: str, outputs: Sequence[str]) -> onnx.GraphProto:
        """The nodes as the body of a ``Loop`` that is never left early.

        Args:
            number: name to give to the index of the iteration, () of int64.
            outputs: names of the values to stack over all iterations.
        """
        going = f"{self.prefix}going"
        graph = self.subgraph([self.op("Identity", going), *outputs])
        for name, kind in ((number, onnx.TensorProto.INT64), (going, onnx.TensorProto.BOOL)):
            graph.input.append(helper.make_tensor_value_info(name, kind, []))
        return graph

    def model(self, spec: GraphSpec) -> onnx.ModelProto:
        """The finished graph with the given inputs and outputs, checked by ONNX."""
        graph = helper.make_graph(
            self._nodes,
            "stale-edge",
            [_value_info(tensor) for tensor in spec.inputs],
            [_value_info(tensor) for tensor in spec.outputs],
            list(self._weights.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "stale-edge"
        onnx.checker.check_model(model, full_check=True)
        return model


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what PyTorch's exporter writes into every node about this machine and its source files."""
    for graph in (model.graph, *model.functions):
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
        del graph.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    onnx.checker.check_model(model)
    return model


def serialize(model: onnx.ModelProto) -> bytes:
    """The content of a model's file; equal models give equal bytes."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _value_info(tensor: TensorSpec) -> onnx.ValueInfoProto:
    shape: Sequence[int | str] = tensor.shape
    return helper.make_tensor_value_info(tensor.name, helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)), shape)
