import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from stale_export.graphs import (
    GraphDesign,
    LocalizerGraph,
    localizer_design,
    text_encoder_design,
    write_graph,
)
from stale_model import TrainedStale
from stale_runtime.errors import ExportError
from stale_runtime.localizer import LONGEST, SHORTEST
from stale_runtime.manifest import GraphSpec, TensorSpec
from stale_runtime.onnx_safety import refuse_external_data
from tests import tiny

C = tiny.CHANNELS
REPOSITORY = Path(__file__).resolve().parents[2]


def interface(values: Iterable[onnx.ValueInfoProto]) -> dict[str, tuple[int, list[int | str]]]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [axis.dim_param.replace(" ", "") or axis.dim_value for axis in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


def weights(model: bytes) -> int:
    return sum(math.prod(tensor.dims) for tensor in onnx.load_from_string(model).graph.initializer)


def test_the_localizers_interface_is_as_declared(localizer_model: bytes) -> None:
    graph = onnx.load_from_string(localizer_model).graph
    assert interface(graph.input) == {
        "features": (TensorProto.FLOAT, ["B", "T", C]),
        "prompts": (TensorProto.FLOAT, ["K", C]),
    }
    assert interface(graph.output) == {
        "cas_logits": (TensorProto.FLOAT, ["B", "K+1", "T"]),
        "action_masks": (TensorProto.FLOAT, ["B", "T", "T"]),
    }


def test_the_text_encoders_interface_is_as_declared(text_model: bytes) -> None:
    graph = onnx.load_from_string(text_model).graph
    assert interface(graph.input) == {"token_ids": (TensorProto.INT64, ["K", "L"])}
    assert interface(graph.output) == {"embeddings": (TensorProto.FLOAT, ["K", C])}


def test_the_designs_say_what_the_graphs_are(trained: TrainedStale, localizer_model: bytes, text_model: bytes) -> None:
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    for design, model in (
        (localizer_design(trained.network), localizer_model),
        (text_encoder_design(trained.tower, C), text_model),
    ):
        graph = onnx.load_from_string(model).graph
        for tensors, values in ((design.spec.inputs, graph.input), (design.spec.outputs, graph.output)):
            assert {spec.name: (kinds[spec.dtype], list(spec.shape)) for spec in tensors} == interface(values)


def test_example_sizes_are_never_one(trained: TrainedStale) -> None:
    for design in (localizer_design(trained.network), text_encoder_design(trained.tower, C)):
        for tensor, spec in zip(design.examples, design.spec.inputs, strict=True):
            assert len(tensor.shape) == len(spec.shape)
            assert all(size > 1 for size in tensor.shape)


@pytest.mark.parametrize(("B", "T", "K"), [(1, SHORTEST, 1), (3, 40, 5), (1, 101, 2), (1, 700, 1)])
def test_batch_length_and_class_count_are_free(localizer_model: bytes, B: int, T: int, K: int) -> None:
    session = onnxruntime.InferenceSession(localizer_model)
    features, prompts = torch.randn(B, T, C).numpy(), torch.randn(K, C).numpy()
    cas_logits, action_masks = session.run(["cas_logits", "action_masks"], {"features": features, "prompts": prompts})
    assert cas_logits.shape == (B, K + 1, T)
    assert action_masks.shape == (B, T, T)
    assert LONGEST > T


@pytest.mark.parametrize(("K", "L"), [(1, 2), (5, 9), (70, tiny.CONTEXT)])
def test_prompt_count_and_token_count_are_free(text_model: bytes, K: int, L: int) -> None:
    ids = np.full((K, L), 54)
    ids[:, 0] = 53
    (embeddings,) = onnxruntime.InferenceSession(text_model).run(None, {"token_ids": ids})
    assert embeddings.shape == (K, C)


def test_the_trace_module_gives_what_localize_gives() -> None:
    network = tiny.make_network()
    features, prompts = torch.randn(2, 20, C), torch.randn(3, C)
    with torch.no_grad():
        expected = network.localize(features, network.with_background(prompts))
        for got, wanted in zip(LocalizerGraph(network)(features, prompts), expected, strict=True):
            assert torch.equal(got, wanted)


@pytest.mark.parametrize("name", ["localizer_model", "text_model"])
def test_a_graph_is_whole_and_says_nothing_of_the_machine(name: str, request: pytest.FixtureRequest) -> None:
    model: bytes = request.getfixturevalue(name)
    refuse_external_data(model, name)
    assert all(not tensor.external_data for tensor in onnx.load_from_string(model).graph.initializer)
    for trace in (str(REPOSITORY), str(Path.home()), "site-packages/", "dist-packages/", ".py", "stack_trace"):
        assert trace.encode() not in model, trace


def test_no_branch_is_exported_that_detection_does_not_read(trained: TrainedStale, localizer_model: bytes) -> None:
    foreground = sum(weight.numel() for weight in trained.network.foreground.parameters())
    deployed = sum(weight.numel() for weight in trained.network.parameters()) - foreground
    assert abs(weights(localizer_model) - deployed) < 100  # some constants more, some equal weights kept once
    assert foreground > 1000


def test_the_background_embedding_is_inside(trained: TrainedStale, localizer_model: bytes) -> None:
    background = trained.network.background_embedding.detach().numpy()
    assert background.tobytes() in localizer_model


def test_the_opset_is_the_exporters_own(localizer_model: bytes, text_model: bytes) -> None:
    for model in (localizer_model, text_model):
        versions = {entry.domain: entry.version for entry in onnx.load_from_string(model).opset_import}
        assert versions[""] >= 18


def test_the_same_network_gives_the_same_bytes(
    trained: TrainedStale, localizer_model: bytes, text_model: bytes
) -> None:
    assert write_graph(LocalizerGraph(trained.network), localizer_design(trained.network)) == localizer_model
    design = text_encoder_design(trained.tower, C)
    assert write_graph(trained.tower, design, trained.clip.text_config.max_position_embeddings) == text_model


class Unexportable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


def test_what_cannot_be_exported_is_an_error_of_one_line() -> None:
    tensor = TensorSpec(name="x", dtype="float32", shape=("B", 3))
    design = GraphDesign(spec=GraphSpec(inputs=(tensor,), outputs=(tensor,)), examples=(torch.ones(2, 3),))
    with pytest.raises(ExportError, match=r"^Unexportable: PyTorch cannot export it to ONNX") as caught:
        write_graph(Unexportable(), design)
    assert "\n" not in str(caught.value)
