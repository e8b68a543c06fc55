"""Graphs that would take gigabytes or go on for ever."""

import gc
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from stale_runtime.bundle.onnx_session import TOWER_LIMITS, WEIGHT_COPIES, GraphLimits, open_session, run_session
from stale_runtime.errors import BundleError, TimeLimitError
from stale_runtime.system.long_calls import stop_calls, time_limit
from tests.runtime.helpers import no_waiting

MEGABYTE = 2**20
SMALL = GraphLimits(working_bytes=64 * MEGABYTE, loops=True)
X = {"x": np.zeros(100, np.float32)}


def serialized(nodes: list[NodeProto], *arrays: tuple[str, NDArray[Any]]) -> bytes:
    """A graph from x to y, both of 100 numbers."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays]
    graph = helper.make_graph(nodes, "graph", [x], [y], tensors)
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def summed(*, constant: bool, numbers: int) -> bytes:
    """x plus the sum of so many numbers, which a constant or the input asks for."""
    count = helper.make_node("Shape", ["x"], ["count"])
    nodes = [
        *([] if constant else [count, helper.make_node("Mul", ["count", "size"], ["asked"])]),
        helper.make_node("ConstantOfShape", ["size" if constant else "asked"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["sum"], keepdims=1),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return serialized(nodes, ("size", np.array([numbers if constant else numbers // 100])))


def looping(operator: str = "Loop") -> bytes:
    """A loop of years."""
    infos = [("i", TensorProto.INT64), ("going", TensorProto.BOOL), ("v", TensorProto.FLOAT)]
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in infos]
    outputs = [helper.make_tensor_value_info(f"{name}2", kind, []) for name, kind in infos[1:]]
    nodes = [helper.make_node("Identity", ["going"], ["going2"]), helper.make_node("Add", ["v", "v"], ["v2"])]
    body: GraphProto = helper.make_graph(nodes, "body", inputs, outputs)
    loop = helper.make_node(operator, ["times", "", "zero"], ["end"], body=body)
    both = [loop, helper.make_node("Add", ["x", "end"], ["y"])]
    return serialized(both, ("times", np.array(2**62)), ("zero", np.array(0, np.float32)))


@pytest.mark.parametrize("constant", [True, False])
def test_a_graph_that_takes_gigabytes_is_refused_before_it_has_them(constant: bool) -> None:
    session = open_session(summed(constant=constant, numbers=10**9), name="m.onnx", threads=1, limits=SMALL)
    with pytest.raises(BundleError, match=r"^a graph asks for 4,000,000,000 bytes of memory in one step"):
        run_session(session, ["y"], X)


def test_each_graph_has_a_limit_of_its_own_and_frees_its_memory() -> None:
    model = summed(constant=False, numbers=30 * MEGABYTE)  # 120 MB
    narrow = open_session(model, name="m.onnx", threads=1, limits=SMALL)
    wide = open_session(model, name="m.onnx", threads=1, limits=GraphLimits(working_bytes=256 * MEGABYTE))
    for _ in range(2):
        np.testing.assert_array_equal(run_session(wide, ["y"], X)[0], X["x"])
        with pytest.raises(BundleError, match="asks for"):
            run_session(narrow, ["y"], X)
    held = resident()
    del wide
    gc.collect()
    assert held - resident() > 100 * MEGABYTE


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_weights_that_are_rearranged_as_many_more_leave_the_limit_in_force() -> None:
    K = 2**22
    nodes = [
        helper.make_node("Expand", ["x1", "wide"], ["row"]),
        helper.make_node("MatMul", ["row", "column"], ["product"]),
        helper.make_node("Shape", ["x"], ["count"]),
        helper.make_node("Mul", ["count", "times"], ["asked"]),
        helper.make_node("ConstantOfShape", ["asked"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["product"], ["total"], keepdims=0),
        helper.make_node("Sum", ["x", "sum", "total"], ["y"]),
    ]
    column = ("column", np.ones((K, 1), np.float32))
    sizes = ("x1", np.ones((1, 1), np.float32)), ("wide", np.array([1, K])), ("times", np.array([10**7]))
    model = serialized(nodes, column, *sizes)
    assert SMALL.working_bytes + WEIGHT_COPIES * len(model) < 4 * 10**9
    session = open_session(model, name="m.onnx", threads=1, limits=SMALL)
    with pytest.raises(BundleError, match="asks for 4,000,000,000 bytes"):
        run_session(session, ["y"], X)


def test_nothing_is_computed_while_a_graph_is_loaded() -> None:
    """ONNX Runtime would fold constants, for which there is neither a limit of memory nor of time."""
    nodes = [helper.make_node("Expand", ["one", "size"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{n}", "m0"], [f"m{n + 1}"]) for n in range(50)]
    nodes += [
        helper.make_node("ReduceMax", ["m50"], ["most"], keepdims=0),
        helper.make_node("Add", ["x", "most"], ["y"]),
    ]
    model = serialized(nodes, ("one", np.ones((1, 1), np.float32)), ("size", np.array([6000, 6000])))
    with no_waiting():  # for minutes
        session = open_session(model, name="m.onnx", threads=1, limits=SMALL)
    with pytest.raises(BundleError, match="asks for 144,000,000 bytes"):
        run_session(session, ["y"], X)


@pytest.mark.parametrize("operator", ["Loop", "Scan", "SequenceMap"])
def test_a_tower_has_no_loop(operator: str) -> None:
    with pytest.raises(BundleError, match=rf"^m\.onnx: has a loop \({operator}\), which could go on for ever"):
        open_session(looping(operator), name="m.onnx", threads=1, limits=TOWER_LIMITS)


@pytest.mark.parametrize("operator", ["Scan", "SequenceMap"])
def test_a_localizer_has_no_other_loop(operator: str) -> None:
    with pytest.raises(BundleError, match=operator):
        open_session(looping(operator), name="m.onnx", threads=1, limits=SMALL)


@pytest.mark.parametrize("operator", ["NonZero", "Unique", "RoiAlign", "StringConcat"])
def test_operators_whose_memory_the_limit_does_not_see_are_refused(operator: str) -> None:
    model = serialized([helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node(operator, ["x"], ["z"])])
    with pytest.raises(BundleError, match=rf"^m\.onnx: uses {operator}, whose memory has no limit"):
        open_session(model, name="m.onnx", threads=1, limits=SMALL)


@pytest.mark.parametrize("text", [{"value_string": "a"}, {"value_strings": ["a", "b"]}])
def test_text_that_could_be_repeated_is_refused(text: dict[str, Any]) -> None:
    model = serialized([helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Constant", [], ["text"], **text)])
    with pytest.raises(BundleError, match=r"^m\.onnx: has text among its values"):
        open_session(model, name="m.onnx", threads=1, limits=SMALL)


def test_a_loop_that_piles_up_empty_outputs_is_refused() -> None:
    model = serialized([helper.make_node("Loop", ["n", ""], ["y", "other"])])
    with pytest.raises(BundleError, match=r"^m\.onnx: has a loop with several outputs"):
        open_session(model, name="m.onnx", threads=1, limits=SMALL)


def test_a_time_limit_ends_a_loop() -> None:
    session = open_session(looping(), name="m.onnx", threads=1, limits=SMALL)
    says = r"^video: took longer than the limit of 0\.1 s; allow more \(--timeout\)"
    with pytest.raises(TimeLimitError, match=says), time_limit(0.1, "video"):
        run_session(session, ["y"], X)


def test_a_signal_ends_a_loop() -> None:
    session = open_session(looping(), name="m.onnx", threads=1, limits=SMALL)
    timer = threading.Timer(0.1, stop_calls)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_session(session, ["y"], X)
    timer.join()
