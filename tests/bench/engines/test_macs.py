import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stale_bench.engines.macs import count_onnx, node_macs
from stale_export.graph_builder import IR_VERSION, OPSET
from stale_runtime.errors import BenchmarkError


def model(nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str]], **weights: np.ndarray) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(nodes[-1].output[0])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
    return data


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("operator", "inputs", "output", "expected"),
    [
        ("MatMul", [(5, 7), (7, 3)], (5, 3), 105),
        ("MatMul", [(2, 5, 7), (7, 3)], (2, 5, 3), 210),
        ("MatMul", [(5, 7), (2, 7, 3)], (2, 5, 3), 210),
        ("MatMul", [(7,), (7, 3)], (3,), 21),
        ("MatMul", [(5, 7), (7,)], (5,), 35),
        ("Gemm", [(7, 5), (7, 3)], (5, 3), 105),
        ("FusedMatMul", [(2, 7, 5), (2, 7, 3)], (2, 5, 3), 210),
        ("MatMulInteger", [(5, 7), (7, 3)], (5, 3), 105),
        ("QLinearMatMul", [(5, 7), (), (), (7, 3)], (5, 3), 105),
        ("Conv", [(1, 4, 9), (6, 4, 3)], (1, 6, 9), 648),
        ("Conv", [(1, 4, 9), (6, 2, 3)], (1, 6, 9), 324),
        ("QLinearConv", [(1, 4, 9), (), (), (6, 4, 3)], (1, 6, 9), 648),
        ("Add", [(5, 7), (5, 7)], (5, 7), 0),
    ],
)
def test_a_node_counts_as_its_definition_says(
    operator: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], expected: int
) -> None:
    assert node_macs(operator, inputs, output) == expected


def test_a_graph_counts_every_product_and_convolution(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["t", "k"], ["y"], pads=[1, 1]),
    ]
    data = model(nodes, {"x": [1, "T", 8]}, w=zeros(8, 4), k=zeros(6, 4, 3))
    for T in (5, 11):
        macs = count_onnx(data, {"x": zeros(1, T, 8)}, tmp_path)
        assert macs == (T * 8 * 4 + T * 6 * 4 * 3, 0)
        assert macs.int8_share == 0
    assert list(tmp_path.iterdir()) == []


def test_a_loop_counts_as_often_as_it_runs(tmp_path: Path) -> None:
    ins, outs = ([helper.make_empty_tensor_value_info(name)] for name in ("row", "out"))
    body = helper.make_graph([helper.make_node("MatMul", ["row", "w"], ["out"])], "body", ins, outs)
    data = model(
        [helper.make_node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1)], {"x": ["N", 2, 8]}, w=zeros(8, 4)
    )
    assert count_onnx(data, {"x": zeros(3, 2, 8)}, tmp_path).total == 3 * 2 * 8 * 4


def test_the_integer_share_is_of_what_runs_in_integers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w8", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    data = model(nodes, {"x": [5, 8]}, w8=np.ones((8, 6), np.int8), w=zeros(6, 4))
    macs = count_onnx(data, {"x": zeros(5, 8)}, tmp_path)
    assert macs == (5 * 8 * 6 + 5 * 6 * 4, 5 * 8 * 6)
    assert macs.int8_share == pytest.approx(240 / 360)


def test_quantized_nodes_around_a_float_product_are_seen_as_they_run(tmp_path: Path) -> None:
    scale, zero = np.array(0.1, np.float32), np.array(0, np.uint8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w8", "s", "z"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "s", "z"], ["mq"]),
        helper.make_node("DequantizeLinear", ["mq", "s", "z"], ["y"]),
    ]
    data = model(nodes, {"x": [5, 8]}, w8=np.ones((8, 6), np.uint8), s=scale, z=zero)
    assert count_onnx(data, {"x": zeros(5, 8)}, tmp_path) == (240, 240)


def test_a_profile_that_could_not_be_written_is_a_benchmark_error(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    data = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [5, 7]}, w=zeros(7, 3))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(BenchmarkError, match="no room for ONNX Runtime's profile"):
            count_onnx(data, {"x": zeros(5, 7)}, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
