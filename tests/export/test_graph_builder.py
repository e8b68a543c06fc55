import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stale_export.graph_builder import IR_VERSION, OPSET, GraphBuilder, serialize, tidy
from stale_runtime.bundle.manifest import GraphSpec, TensorSpec

X, Y = (TensorSpec(name=name, dtype="float32", shape=("N", 3)) for name in "xy")
SPEC = GraphSpec(inputs=(X,), outputs=(Y,))
VALUES = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)


def evaluate(model: onnx.ModelProto, values: NDArray[np.float32] = VALUES) -> NDArray[np.float32]:
    (y,) = onnxruntime.InferenceSession(serialize(model)).run(["y"], {"x": values})
    return np.asarray(y)


def double() -> onnx.ModelProto:
    graph = GraphBuilder()
    graph.name("y", graph.op("Mul", "x", graph.number(2)))
    return graph.model(SPEC)


def test_operators_follow_one_another() -> None:
    graph = GraphBuilder()
    rectified = graph.op("Relu", "x")
    shifted = graph.op("Add", rectified, graph.weight("shift", np.array([10, 20, 30], np.float32)))
    graph.name("y", graph.op("CumSum", shifted, graph.scalar(1), reverse=1))
    np.testing.assert_array_equal(evaluate(graph.model(SPEC)), [[64, 53, 33], [65, 55, 30]])


def test_an_operator_may_have_several_outputs() -> None:
    graph = GraphBuilder()
    parts = graph.ops("Split", "x", outputs=3, axis=1, num_outputs=3)
    assert len(set(parts)) == 3
    graph.name("y", graph.op("Concat", *reversed(parts), axis=1))
    np.testing.assert_array_equal(evaluate(graph.model(SPEC)), VALUES[:, ::-1])


def test_an_input_may_be_left_out() -> None:
    graph = GraphBuilder()
    graph.name("y", graph.op("Clip", "x", "", graph.number(1)))
    np.testing.assert_array_equal(evaluate(graph.model(SPEC)), VALUES.clip(max=1))


def test_only_the_last_value_can_be_named() -> None:
    graph = GraphBuilder()
    first = graph.op("Relu", "x")
    graph.op("Neg", first)
    with pytest.raises(AssertionError, match="only the last value"):
        graph.name("y", first)


def test_a_subgraph_sees_the_outer_values() -> None:
    graph = GraphBuilder()
    rectified = graph.op("Relu", "x")
    branches = {}
    for name, operator in (("then_branch", "Neg"), ("else_branch", "Identity")):
        inner = GraphBuilder(f"{name}/")
        branches[name] = inner.subgraph([inner.op(operator, inner.op("Add", rectified, inner.number(1)))])
    many = graph.op("Greater", graph.op("Shape", "x", start=0, end=1), graph.integers(1))
    graph.name("y", graph.op("If", graph.op("Squeeze", many), **branches))
    model = graph.model(SPEC)
    np.testing.assert_array_equal(evaluate(model), -1 - VALUES.clip(min=0))
    np.testing.assert_array_equal(evaluate(model, VALUES[:1]), 1 + VALUES[:1].clip(min=0))


def test_names_differ_by_prefix() -> None:
    outer, inner = GraphBuilder(), GraphBuilder("inner/")
    names = [(graph.op("Relu", "x"), graph.integers(1), graph.number(1)) for graph in (outer, inner)]
    assert not set(names[0]) & set(names[1])


def test_constants_are_kept_once_and_apart() -> None:
    graph = GraphBuilder()
    assert graph.integers(1, -2) == graph.integers(1, -2)
    assert graph.number(1) == graph.number(1.0)
    names = [
        graph.integers(1),
        graph.integers(-1),
        graph.integers(1, 2),
        graph.integers(12),
        graph.scalar(1),
        graph.scalar(-1),
        graph.number(1),
        graph.number(-1),
        graph.number(1e-4),
        graph.number(1234567),
        graph.number(1234568),  # of which six digits are the same
    ]
    assert len(set(names)) == len(names)
    graph.name("y", graph.op("Relu", "x"))
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.model(SPEC).graph.initializer}
    assert found[names[2]].tolist() == [1, 2]
    assert [found[name].shape for name in (names[0], names[4], names[6])] == [(1,), (), ()]
    assert {found[name].dtype.name for name in names} == {"int64", "float32"}
    assert [float(found[name]) for name in names[-3:]] == [np.float32(1e-4), 1234567, 1234568]


def test_the_interface_is_the_one_asked_for() -> None:
    model = double()
    (x,), (y,) = model.graph.input, model.graph.output
    for value in (x, y):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        assert [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] == ["N", 3]
    assert (x.name, y.name) == ("x", "y")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)] == [("", 20)]
    assert model.ir_version == IR_VERSION == 10
    np.testing.assert_array_equal(evaluate(model), 2 * VALUES)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("NoSuchOperator", ("x",), {}),
        ("Relu", ("nobody",), {}),
        ("Relu", ("x",), {"axis": 1}),
        ("Transpose", ("x",), {"perm": [0, 1, 2]}),
    ],
)
def test_a_wrong_graph_is_found_before_it_is_written(
    operator: str, inputs: tuple[str, ...], attributes: dict[str, object]
) -> None:
    graph = GraphBuilder()
    graph.name("y", graph.op(operator, *inputs, **attributes))
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        graph.model(SPEC)


def test_an_output_that_nothing_makes_is_found() -> None:
    graph = GraphBuilder()
    graph.op("Relu", "x")
    with pytest.raises(onnx.checker.ValidationError):
        graph.model(SPEC)


def test_the_same_graph_gives_the_same_bytes() -> None:
    data = serialize(double())
    assert serialize(double()) == data
    assert serialize(onnx.load_from_string(data)) == data


def test_tidying_removes_traces_and_nothing_else() -> None:
    model = double()
    model.graph.node[0].doc_string = ""  # which is two bytes more than none
    clean = serialize(model)
    model.graph.node[0].doc_string = "/home/me/secret.py"
    for traced in (model.graph, model.graph.node[0], model.graph.input[0], model.graph.initializer[0]):
        traced.metadata_props.append(onnx.StringStringEntryProto(key="stack_trace", value="/home/me/secret.py"))
    assert b"secret" in serialize(model)
    tidied = tidy(model)
    assert serialize(tidied) == clean
    np.testing.assert_array_equal(evaluate(tidied), 2 * VALUES)


def test_tidying_reaches_into_functions() -> None:
    node = helper.make_node("Relu", ["a"], ["b"])
    node.metadata_props.append(onnx.StringStringEntryProto(key="stack_trace", value="/home/me/secret.py"))
    function = helper.make_function("mine", "f", ["a"], ["b"], [node], [helper.make_opsetid("", OPSET)])
    graph = helper.make_graph(
        [helper.make_node("f", ["x"], ["y"], domain="mine")], "g", double().graph.input, double().graph.output
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("mine", 1)]
    model = helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=IR_VERSION)
    assert b"secret" in serialize(model)
    assert b"secret" not in serialize(tidy(model))
