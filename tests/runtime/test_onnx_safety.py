from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from stale_runtime.errors import BundleError
from stale_runtime.onnx_safety import refuse_external_data
from stale_runtime.sessions import open_session


def tensor(name: str, *, external: bool) -> TensorProto:
    made = numpy_helper.from_array(np.arange(4, dtype=np.float32), name)
    if external:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        made.external_data.add(key="location", value="/etc/passwd")
    return made


def model(*, external: str = "") -> ModelProto:
    """A model with tensors in every place that the format has; one of them is kept elsewhere."""

    def at(place: str) -> TensorProto:
        return tensor(place.replace(" ", "_"), external=place == external)

    def constant(output: str, value: TensorProto) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [output], value=value)

    def sparse(place: str) -> onnx.SparseTensorProto:
        indices = numpy_helper.from_array(np.arange(4), f"{place}_indices")
        return onnx.helper.make_sparse_tensor(at(place), indices, [8])

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    branch_out = [helper.make_tensor_value_info("b", TensorProto.FLOAT, [4])]
    nested = helper.make_graph([constant("b", at("subgraph of a subgraph"))], "nested", [], branch_out)
    condition = numpy_helper.from_array(np.array(True), "condition")
    inner = helper.make_node("If", ["condition"], ["b"], then_branch=nested, else_branch=nested)
    then = helper.make_graph([inner], "then", [], branch_out)
    other = helper.make_graph([constant("b", at("subgraph"))], "else", [], branch_out)
    other.initializer.append(at("initializer of a subgraph"))
    listed = helper.make_node("Listed", ["x"], ["l"], domain="test")
    listed.attribute.append(
        AttributeProto(name="tensors", type=AttributeProto.TENSORS, tensors=[at("list of tensors"), at("its second")])
    )
    graphs = AttributeProto(name="graphs", type=AttributeProto.GRAPHS)
    graphs.graphs.add(name="in a list").initializer.append(at("list of graphs"))
    listed.attribute.append(graphs)
    listed.attribute.append(
        AttributeProto(name="s", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse("sparse attribute"))
    )
    listed.attribute.append(
        AttributeProto(name="ss", type=AttributeProto.SPARSE_TENSORS, sparse_tensors=[sparse("sparse list")])
    )
    nodes = [
        constant("c", at("constant")),
        helper.make_node("If", ["condition"], ["i"], then_branch=then, else_branch=other),
        listed,
        helper.make_node("Sum", ["x", "initializer", "c", "i"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "graph", [x], [y], [condition, at("initializer")])
    graph.sparse_initializer.append(sparse("sparse initializer"))
    function = helper.make_function("test", "Listed", ["x"], ["l"], [constant("l", at("function"))], [])
    function.attribute_proto.add(name="default", type=AttributeProto.TENSOR).t.CopyFrom(at("default of a function"))
    made = helper.make_model(graph, functions=[function], opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made.training_info.add().initialization.initializer.append(at("training"))
    made.training_info[0].algorithm.initializer.append(at("training algorithm"))
    return made


def plain() -> bytes:
    """A model that ONNX Runtime can run: y = x + 0, 1, 2, 3."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "graph", [x], [y], [tensor("w", external=False)]
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


PLACES = (
    "initializer",
    "constant",
    "subgraph",
    "initializer of a subgraph",
    "subgraph of a subgraph",
    "list of tensors",
    "its second",
    "list of graphs",
    "sparse attribute",
    "sparse list",
    "sparse initializer",
    "function",
    "default of a function",
    "training",
    "training algorithm",
)


def test_a_model_that_keeps_its_tensors_is_accepted() -> None:
    refuse_external_data(model().SerializeToString(), "m.onnx")
    refuse_external_data(plain(), "m.onnx")


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_refused_wherever_it_is(place: str) -> None:
    data = model(external=place).SerializeToString()
    assert b"/etc/passwd" in data
    with pytest.raises(BundleError, match=r"m\.onnx: keeps tensors in another file"):
        refuse_external_data(data, "m.onnx")


def test_a_location_alone_or_a_flag_alone_is_refused() -> None:
    for clear in ("data_location", "external_data"):
        made = model(external="initializer")
        made.graph.initializer[1].ClearField(clear)
        with pytest.raises(BundleError, match="another file"):
            refuse_external_data(made.SerializeToString(), "m.onnx")


def test_external_data_that_onnx_itself_writes_is_refused(tmp_path: Path) -> None:
    made = onnx.load_from_string(plain())
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(BundleError, match="another file"):
        refuse_external_data((tmp_path / "m.onnx").read_bytes(), "m.onnx")


def test_deep_nesting_is_refused() -> None:
    graph = b""
    for field in [*(6, 5, 1) * 40, 7]:  # graph in attribute in node in graph, the outermost in a model
        size = bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7])
        graph = bytes([field << 3 | 2]) + size + graph
    with pytest.raises(BundleError, match="nested too deeply"):
        refuse_external_data(graph, "m.onnx")


def test_a_truncated_model_is_no_model() -> None:
    data = plain()
    for size in range(len(data)):
        with pytest.raises(BundleError, match=r"m\.onnx"):
            open_session(data[:size], name="m.onnx", threads=1)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=100))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"m\.onnx"):
        open_session(data, name="m.onnx", threads=1)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_changed_byte_raises_nothing_else(data: st.DataObject) -> None:
    content = bytearray(model().SerializeToString())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        refuse_external_data(bytes(content), "m.onnx")
    except BundleError:
        return
    assert len(content) == len(model().SerializeToString())
