from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from stale_runtime.bundle.onnx_safety import refuse_unsafe
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.errors import COPY_AGAIN, BundleError


def tensor(name: str, *, external: bool) -> TensorProto:
    made = numpy_helper.from_array(np.arange(4, dtype=np.float32), name)
    if external:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        made.external_data.add(key="location", value="/etc/passwd")
    return made


def model(*, external: str = "") -> ModelProto:
    """A model with tensors in every place that is checked; one of them is in an external file."""

    def at(place: str) -> TensorProto:
        return tensor(place.replace(" ", "_"), external=place == external)

    def constant(output: str, value: TensorProto) -> NodeProto:
        return helper.make_node("Constant", [], [output], value=value)

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    branch_out = [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["B"])]
    nested = helper.make_graph([constant("b", at("subgraph of a subgraph"))], "nested", [], branch_out)
    condition = numpy_helper.from_array(np.array(True), "condition")
    inner = helper.make_node("If", ["condition"], ["b"], then_branch=nested, else_branch=nested)
    then = helper.make_graph([inner], "then", [], branch_out)
    other = helper.make_graph([constant("b", at("subgraph"))], "else", [], branch_out)
    other.initializer.append(at("initializer of a subgraph"))
    listed = helper.make_node("Listed", ["x"], ["l"])
    listed.attribute.append(
        AttributeProto(name="tensors", type=AttributeProto.TENSORS, tensors=[at("list of tensors"), at("its second")])
    )
    graphs = AttributeProto(name="graphs", type=AttributeProto.GRAPHS)
    graphs.graphs.add(name="in a list").initializer.append(at("list of graphs"))
    listed.attribute.append(graphs)
    nodes = [
        constant("c", at("constant")),
        helper.make_node("If", ["condition"], ["i"], then_branch=then, else_branch=other),
        listed,
        helper.make_node("Sum", ["x", "initializer", "c", "i"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "graph", [x], [y], [condition, at("initializer")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def refused(made: ModelProto | bytes, match: str) -> None:
    data = made if isinstance(made, bytes) else made.SerializeToString()
    with pytest.raises(BundleError, match=rf"^m\.onnx: .*{match}.*; {COPY_AGAIN}$"):
        refuse_unsafe(data, "m.onnx")


def graphs_of(made: ModelProto) -> dict[str, GraphProto]:
    """Graphs at every depth."""
    branch = made.graph.node[1].attribute[0].g
    return {
        "main": made.graph,
        "branch": branch,
        "branch of a branch": branch.node[0].attribute[0].g,
        "in a list": made.graph.node[2].attribute[1].graphs[0],
    }


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
)
GRAPHS = ("main", "branch", "branch of a branch", "in a list")


def test_a_model_that_only_computes_is_accepted() -> None:
    refuse_unsafe(model().SerializeToString(), "m.onnx")
    refuse_unsafe(plain(), "m.onnx")


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_refused_wherever_it_is(place: str) -> None:
    data = model(external=place).SerializeToString()
    assert b"/etc/passwd" in data
    refused(data, "keeps tensors in another file")


def test_a_location_alone_or_a_flag_alone_is_refused() -> None:
    for clear in ("data_location", "external_data"):
        made = model(external="initializer")
        made.graph.initializer[1].ClearField(clear)
        refused(made, "another file")


def test_external_data_that_onnx_itself_writes_is_refused(tmp_path: Path) -> None:
    made = onnx.load_from_string(plain())
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    assert len(list(tmp_path.iterdir())) == 2
    refused((tmp_path / "m.onnx").read_bytes(), "another file")


@pytest.mark.parametrize("place", GRAPHS)
@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "custom", "ai.onnx "])
def test_operators_of_other_domains_are_refused_wherever_they_are(place: str, domain: str) -> None:
    made = model()
    graphs_of(made)[place].node.add(op_type="EPContext", domain=domain)
    refused(made, f"uses operators of {domain!r}")


@pytest.mark.parametrize("place", GRAPHS)
def test_onnx_may_be_called_by_its_name(place: str) -> None:
    made = model()
    graphs_of(made)[place].node.add(op_type="Relu", domain="ai.onnx")
    refuse_unsafe(made.SerializeToString(), "m.onnx")


def test_functions_are_refused_also_of_onnx_s_own_domain() -> None:
    made = model()
    made.functions.append(helper.make_function("", "Relu", ["x"], ["y"], [], []))
    refused(made, "has functions of its own")


def test_training_steps_are_refused() -> None:
    made = model()
    made.training_info.add()
    refused(made, "has training steps")


def test_what_is_as_large_as_it_declares_is_refused() -> None:
    values, indices = tensor("values", external=False), numpy_helper.from_array(np.arange(4), "indices")
    sparse = helper.make_sparse_tensor(values, indices, [2**40])
    made = model()
    made.graph.sparse_initializer.append(sparse)
    refused(made, "has sparse tensors")
    for change in ({"sparse_tensor": sparse}, {"sparse_tensors": [sparse]}):
        made = model()
        made.graph.node[0].attribute.append(AttributeProto(name="s", **change))
        refused(made, "has sparse tensors")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dims", [[2**40], [5], [3], [], [2, 4], [4, 0], [2**32, 2**32], [-4], [-1, -4], [1] * 17])
def test_a_tensor_that_does_not_hold_its_shape_is_refused(place: str, dims: list[int]) -> None:
    made = model()
    found = next(found for found in _tensors(made) if found.name == place.replace(" ", "_"))
    del found.dims[:]
    found.dims.extend(dims)
    refused(made, "declares")


def test_a_tensor_without_data_is_refused() -> None:
    made = model()
    made.graph.initializer[1].ClearField("raw_data")
    refused(made, "declares tensor 'initializer'")
    made.graph.initializer[1].dims[0] = 0
    refuse_unsafe(made.SerializeToString(), "m.onnx")


def _tensors(made: ModelProto) -> list[TensorProto]:
    found: list[TensorProto] = []

    def look(graph: GraphProto) -> None:
        found.extend(graph.initializer)
        for node in graph.node:
            for attribute in node.attribute:
                found.extend([attribute.t, *attribute.tensors])
                for inner in [attribute.g, *attribute.graphs]:
                    look(inner)

    look(made.graph)
    return found


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TensorProto.FLOAT, [0.0, -1.0, 2.0, 1e30]),
        (TensorProto.DOUBLE, [0.0, -1.0, 2.0, 1e30]),
        (TensorProto.INT64, [0, -1, 2**62, 3]),
        (TensorProto.INT8, [0, -1, 127, 3]),
        (TensorProto.UINT64, [0, 1, 2**63, 3]),
    ],
)
def test_typed_data_is_data(kind: int, values: list[float]) -> None:
    made = model()
    made.graph.initializer.append(helper.make_tensor("typed", kind, [4], values))
    refuse_unsafe(made.SerializeToString(), "m.onnx")
    made.graph.initializer[-1].dims[0] = 2**40
    refused(made, r"declares tensor 'typed' of shape \(1099511627776,\)")


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.UNDEFINED, TensorProto.COMPLEX128, 999])
def test_only_plain_numbers_are_data(kind: int) -> None:
    made = model()
    made.graph.initializer[1].data_type = kind
    refused(made, "data type")


@pytest.mark.parametrize("place", GRAPHS)
@pytest.mark.parametrize("side", ["input", "output", "value_info"])
def test_a_huge_declared_shape_is_refused(place: str, side: str) -> None:
    made = model()
    values = getattr(graphs_of(made)[place], side)
    values.append(helper.make_tensor_value_info("huge", TensorProto.FLOAT, [2**20, "N", 2**20]))
    refused(made, r"declares a value of shape \(1048576, 1048576\)")
    values[-1].type.tensor_type.shape.dim[0].dim_value = 2**11
    refuse_unsafe(made.SerializeToString(), "m.onnx")
    values[-1].type.tensor_type.shape.dim[0].dim_value = -(2**11)
    refused(made, "negative")


@pytest.mark.parametrize("name", [b"x", b"y"])
def test_names_that_are_no_text_are_refused(name: bytes) -> None:
    data = plain()
    assert data.count(b"\x0a\x01" + name + b"\x12") == 1  # the name of an input or output, before its type
    refused(data.replace(b"\x0a\x01" + name + b"\x12", b"\x0a\x01\xf1\x12"), "has a value called .*expected UTF-8")


def test_values_other_than_tensors_are_refused() -> None:
    made = model()
    made.graph.value_info.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [4]))
    refused(made, "has values other than tensors")


def test_what_protobuf_would_merge_is_refused() -> None:
    """Two of a message are one with the shapes of both, which neither of them holds."""
    node = helper.make_node("Constant", [], ["c"], value=tensor("half", external=False))
    doubled = bytearray(node.attribute[0].SerializeToString())
    half = node.attribute[0].t.SerializeToString()
    doubled += bytes([5 << 3 | 2, len(half)]) + half
    merged = AttributeProto.FromString(bytes(doubled))
    assert list(merged.t.dims) == [4, 4]
    assert len(merged.t.raw_data) == 16
    crafted = bytes([5 << 3 | 2, len(doubled)]) + doubled  # an attribute in a node in a graph in a model
    crafted = bytes([1 << 3 | 2, len(crafted)]) + crafted
    crafted = bytes([7 << 3 | 2, len(crafted)]) + crafted
    assert list(ModelProto.FromString(crafted).graph.node[0].attribute[0].t.dims) == [4, 4]
    refused(crafted, "twice")
    refused(plain() + plain(), "twice")


def test_a_key_that_parsers_read_differently_is_refused() -> None:
    """Some parsers read a key of five bytes as 32 bits: this one is of field 7 to them, of none to others."""
    graph = b"\x0a\x00"
    refused(b"\xba\x80\x80\x80\x70" + bytes([len(graph)]) + graph, "field")
    refused(b"\x02\x00", "field 0")
    refused(b"\x08" + b"\xff" * 9 + b"\x7f\x08\x01", "64 bits")


def test_onnx_runtime_s_own_format_is_refused(tmp_path: Path) -> None:
    """It has operators, functions and shapes of its own, which nobody looks through."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(plain(), options, providers=["CPUExecutionProvider"])
    data = (tmp_path / "m.ort").read_bytes()
    assert onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).get_inputs()[0].name == "x"
    refused(data, "not an ONNX model")


def test_onnx_runtime_takes_no_other_format_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """What begins as both formats, and passes as one, is not loaded as the other."""
    monkeypatch.setattr("stale_runtime.bundle.onnx_session.refuse_unsafe", lambda *_, **__: None)
    with pytest.raises(BundleError, match=r"(?i)protobuf"):
        open_session(b"\x12\x20\x00\x00ORTM" + bytes(64), name="m.onnx", threads=1)


def test_deep_nesting_is_refused() -> None:
    graph = b""
    for field in [*(6, 5, 1) * 40, 7]:  # graph in attribute in node in graph, the outermost in a model
        size = bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7])
        graph = bytes([field << 3 | 2]) + size + graph
    with pytest.raises(BundleError, match="nested too deeply"):
        refuse_unsafe(graph, "m.onnx")


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
        refuse_unsafe(bytes(content), "m.onnx")
    except BundleError:
        return
    assert len(content) == len(model().SerializeToString())


def field(number: int, wire: int, content: bytes) -> bytes:
    """A field as protobuf encodes it; the content of wire type 2 gets its length before it."""
    assert number < 16
    return bytes([number << 3 | wire]) + (bytes([len(content)]) + content if wire == 2 else content)


HUGE = b"\x80\x80\x80\x80\x80\x80\x04"
"""2**44 as a varint."""


def declared(dimension: bytes) -> bytes:
    """A model of nothing but an intermediate with such an axis."""
    shape = field(1, 2, dimension)
    kind = field(1, 2, field(1, 0, b"\1") + field(2, 2, shape))
    return field(7, 2, field(13, 2, field(1, 2, b"v") + field(2, 2, kind)))


@pytest.mark.parametrize(
    "behind", [field(1, 1, bytes(8)), field(1, 5, bytes(4)), field(1, 2, b"\1"), field(1, 0, b"\1")]
)
def test_a_size_cannot_hide_behind_a_field_that_protobuf_skips(behind: bytes) -> None:
    refuse_unsafe(declared(field(1, 0, b"\1")), "m.onnx")
    refused(declared(field(1, 0, HUGE)), "declares a value of shape")
    refused(declared(field(1, 0, HUGE) + behind), "dim_value")


@pytest.mark.parametrize("kind", [field(2, 0, b"\1") * 2, field(2, 2, b"\1"), field(2, 5, b"\1\0\0\0")])
def test_a_type_of_data_is_one_number(kind: bytes) -> None:
    with pytest.raises(BundleError, match="data_type"):
        refuse_unsafe(field(7, 2, field(5, 2, field(1, 0, b"\1") + kind + field(9, 2, bytes(4)))), "m.onnx")


def test_a_shape_of_very_many_axes_is_refused_before_it_is_read() -> None:
    axes = b"\x0a\xe8\x07" + b"\1" * 1000
    made = onnx.load_model_from_string(plain())
    tensor = made.graph.initializer[0].SerializeToString() + axes
    made.graph.initializer[0].ParseFromString(tensor)
    refused(made, "declares a shape of more than 16 axes")  # one by one, as ONNX writes them
    for number in (5, 7):  # an initializer of a graph of a model
        tensor = bytes([number << 3 | 2, len(axes) & 0x7F | 0x80, len(axes) >> 7]) + axes
        axes = tensor
    refused(axes, "declares a shape of more than 16 axes")
