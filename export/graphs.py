"""The two ONNX graphs of a bundle: what each computes, and how it is written."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from stale_model import Stale, TextTower
from stale_runtime.errors import ExportError
from stale_runtime.localizer import LONGEST, SHORTEST
from stale_runtime.manifest import GraphSpec, TensorSpec
from stale_runtime.prompts import MOST_PROMPTS

LARGEST_BATCH = 1024


class LocalizerGraph(nn.Module):
    """Features and prompt embeddings to class activations and action masks, with the background embedding inside."""

    def __init__(self, network: Stale) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Args: features (B, T, C), prompts (K, C). Returns: cas_logits (B, K+1, T), action_masks (B, T, T)."""
        localization = self.network.localize(features, self.network.with_background(prompts))
        return localization.cas_logits, localization.action_masks


@dataclass(frozen=True, kw_only=True)
class GraphDesign:
    """A graph's interface, and example inputs to trace it with."""

    spec: GraphSpec
    examples: Sequence[Tensor]
    """One an input; their sizes must not be 1, which tracing would take for fixed."""


def localizer_design(network: Stale) -> GraphDesign:
    """The interface of the localizer: batch, length and class count are free."""
    C, T = network.config.channels, network.config.temporal_scale
    spec = GraphSpec(
        inputs=(
            TensorSpec(name="features", dtype="float32", shape=("B", "T", C)),
            TensorSpec(name="prompts", dtype="float32", shape=("K", C)),
        ),
        outputs=(
            TensorSpec(name="cas_logits", dtype="float32", shape=("B", "K+1", "T")),
            TensorSpec(name="action_masks", dtype="float32", shape=("B", "T", "T")),
        ),
    )
    return GraphDesign(spec=spec, examples=(torch.randn(2, max(T, 16), C), torch.randn(3, C)))


def text_encoder_design(tower: TextTower, channels: int) -> GraphDesign:
    """The interface of the text encoder: the number of prompts and of tokens is free."""
    config = tower.clip.config
    spec = GraphSpec(
        inputs=(TensorSpec(name="token_ids", dtype="int64", shape=("K", "L")),),
        outputs=(TensorSpec(name="embeddings", dtype="float32", shape=("K", channels)),),
    )
    token_ids = torch.full((3, min(8, config.max_position_embeddings)), config.vocab_size - 1)
    return GraphDesign(spec=spec, examples=(token_ids,))


def write_graph(module: nn.Module, design: GraphDesign, context_length: int = 77) -> bytes:
    """Export a module as one self-contained ONNX file.

    Args:
        module: in evaluation mode.
        design: its interface.
        context_length: upper bound of the free axis L.

    Returns:
        The file's content, the same for the same module and versions.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    bounds = {"B": (1, LARGEST_BATCH), "T": (SHORTEST, LONGEST), "K": (1, MOST_PROMPTS), "L": (2, context_length)}
    axes: dict[str, Any] = {letter: Dim(letter, min=low, max=high) for letter, (low, high) in bounds.items()}
    shapes = tuple(
        {axis: axes[size] for axis, size in enumerate(tensor.shape) if isinstance(size, str)}
        for tensor in design.spec.inputs
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the exporter's own internals
            program = torch.onnx.export(
                module,
                tuple(design.examples),
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=[tensor.name for tensor in design.spec.inputs],
                output_names=[tensor.name for tensor in design.spec.outputs],
                dynamic_shapes=shapes,
            )
    except Exception as problem:
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]
        raise ExportError(f"{type(module).__name__}: PyTorch cannot export it to ONNX ({first})") from problem
    assert program is not None
    return _serialize(program.model_proto)


def _serialize(model: onnx.ModelProto) -> bytes:
    """Without the traces of the machine and source lines that the exporter leaves in every node."""
    for graph in (model.graph, *model.functions):
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
        del graph.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
