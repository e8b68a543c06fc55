"""The deployed localizer as a PyTorch module, for the ``torch-*`` backends, in float or by PyTorch's quantization.

It computes what the graph of ``stale_export.localizer_graph`` computes for one video that already has T snippets.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stale_export.folding import FoldedAttention, Matrix
from stale_model import Stale
from stale_model.checkpoints.loading import memory_errors, plain_content
from stale_model.network.stale import LOGIT_SCALE, SCORE_FLOOR, resample_rows
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import LARGEST_AXIS
from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.errors import BundleError, StaleError
from stale_runtime.inference.forward_pass import EncodedPrompts, Outputs

TORCH_FILES = {"torch-fp32": layout.LOCALIZER_TORCH, "torch-int8": layout.LOCALIZER_TORCH_INT8}
"""The file that each backend loads."""


class TorchLocalizer(nn.Module):
    """Computes class activations and action masks from the features of one video and encoded prompts."""

    def __init__(self, channels: int, heads: int, mask_channels: int, temporal_scale: int) -> None:
        super().__init__()
        C, H = channels, heads
        self.sizes = {"channels": C, "heads": H, "mask_channels": mask_channels, "temporal_scale": temporal_scale}
        self.embedding = nn.ModuleDict(
            {"query": nn.Linear(C, H * C, bias=False), "output": nn.Linear(H * C, C), "norm": nn.LayerNorm(C)}
        )
        self.hidden = nn.Linear(3 * C, mask_channels)
        self.kernel = nn.Parameter(torch.empty(temporal_scale, mask_channels))
        self.background = nn.Parameter(torch.empty(1, C))
        self.background_query = nn.Parameter(torch.empty(1, H * C))
        self.adaptation = nn.ModuleDict({"output": nn.Linear(H * C, C), "norm": nn.LayerNorm(C)})

    @classmethod
    def of(cls, network: Stale) -> "TorchLocalizer":
        """Fold the attention blocks of a trained network and copy its other weights."""
        config = network.config
        localizer = cls(config.channels, config.heads, config.mask_channels, config.temporal_scale)
        embedding, adaptation = (
            FoldedAttention.of(block) for block in (network.snippet_embedding, network.cross_adaptation)
        )
        hidden = network.mask_localizer.hidden
        state = {
            "embedding.query.weight": _tensor(embedding.query).T,  # (H*C, C)
            **_output_state("embedding", embedding),
            **_output_state("adaptation", adaptation),
            "hidden.weight": hidden.weight.detach().permute(0, 2, 1).flatten(1),  # (M, C, 3) -> (M, 3*C)
            "hidden.bias": hidden.bias,
            "kernel": network.mask_localizer.kernel,
            "background": network.background_embedding,
            "background_query": network.background_embedding.detach() @ _tensor(adaptation.query),  # (1, H*C)
        }
        localizer.load_state_dict(state)
        return localizer.eval()

    def forward(self, features: Tensor, prompts: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Find actions in one video.

        Args:
            features: (T, C)
            prompts: (K, C) embeddings.
            queries: (K, H*C), see ``stale_export.localizer_graph.cross_queries``.

        Returns:
            cas_logits (K+1, T) and action_masks (T, T).
        """
        queries_of_snippets = self.embedding["query"](features)  # (T, H*C)
        snippets = self._attend(self.embedding, queries_of_snippets, features, features)  # (T, C)
        padded = nn.functional.pad(snippets, (0, 0, 1, 1))  # (T+2, C)
        neighbours = torch.cat([padded[:-2], snippets, padded[2:]], dim=1)  # (T, 3*C)
        hidden = self.hidden(neighbours).relu()  # (T, M)
        masks = (resample_rows(self.kernel, len(features)) @ hidden.T).sigmoid()  # (T, T)
        strength = masks.mean(dim=1)  # (T,)
        kept = snippets * (strength >= strength.mean())[:, None]  # (T, C)
        prompts = torch.cat([prompts, self.background])  # (K+1, C)
        queries = torch.cat([queries, self.background_query])  # (K+1, H*C)
        adapted = self._attend(self.adaptation, queries, kept, prompts)  # (K+1, C)
        floored = nn.functional.normalize(kept.clamp(min=SCORE_FLOOR), dim=1)  # (T, C)
        return LOGIT_SCALE * nn.functional.normalize(adapted, dim=1) @ floored.T, masks  # (K+1, T), (T, T)

    def _attend(self, block: nn.ModuleDict, queries: Tensor, memory: Tensor, residual: Tensor) -> Tensor:
        """Folded attention, residual and norm: queries (N, H*C), memory (T, C), residual (N, C) -> (N, C)."""
        rows = queries.reshape(-1, memory.shape[1])  # (N*H, C)
        gathered = (rows @ memory.T).softmax(dim=1) @ memory  # (N*H, C)
        heads = gathered.reshape(len(queries), -1)  # (N, H*C)
        result: Tensor = block["norm"](block["output"](heads) + residual)
        return result


def quantize_torch_localizer(localizer: TorchLocalizer) -> nn.Module:
    """Copy a localizer, with linear layers that compute in int8 by PyTorch's dynamic quantization.

    Raises:
        ImportError: this PyTorch has no dynamic quantization.
    """
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch announces that the function will move to another package
        module: nn.Module = quantize_dynamic(localizer, {nn.Linear: per_channel_dynamic_qconfig})
    return module


def pack_torch_localizer(localizer: TorchLocalizer, *, int8: bool) -> bytes:
    """The content of a backend's file: tensors and plain values only.

    Raises:
        ImportError: int8 is asked for, and this PyTorch has no dynamic quantization.
    """
    module = quantize_torch_localizer(localizer) if int8 else localizer
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's quantized tensors use a deprecated part of PyTorch
        torch.save({"sizes": localizer.sizes, "int8": int8, "state_dict": module.state_dict()}, buffer)
    return buffer.getvalue()


def count_integer_layers(module: nn.Module) -> int:
    """The number of linear layers that compute in int8."""
    from torch.ao.nn.quantized import dynamic

    return sum(isinstance(layer, dynamic.Linear) for layer in module.modules())


def read_torch_localizer(data: bytes, name: str) -> nn.Module:
    """Load a backend's file.

    Args:
        data: content of the file.
        name: file name, for messages.

    Raises:
        CheckpointError: the file cannot be read.
        OutOfMemoryError: there is not enough memory for it.
        BundleError: ``pack_torch_localizer`` did not write it.
        ImportError: the file is int8, and this PyTorch has no dynamic quantization.
    """
    try:
        with warnings.catch_warnings(), memory_errors(name):
            warnings.simplefilter("ignore")  # PyTorch's quantized tensors use a deprecated part of PyTorch
            return _build_module(plain_content(io.BytesIO(data), name, quantized=True)).eval()
    except (StaleError, ImportError):
        raise
    except Exception as problem:  # PyTorch raises many types of exception for unsuitable content
        raise BundleError(
            f"{name}: not a localizer for PyTorch; copy the bundle again, or ask whoever made it to export it again"
        ) from problem


def _build_module(content: Any) -> nn.Module:
    """Build the module that a file describes; memory is allocated only when sizes and weights agree.

    Raises:
        Exception: the content does not describe one.
    """
    sizes, state = content["sizes"], content["state_dict"]
    if any(type(size) is not int or not 1 <= size <= LARGEST_AXIS for size in sizes.values()):
        raise ValueError("sizes out of range")
    with torch.device("meta"):
        localizer = TorchLocalizer(**sizes)
    expected = {name: (tensor.shape, torch.float32) for name, tensor in localizer.state_dict().items()}
    if content["int8"] is True:
        layers = [name for name, layer in localizer.named_modules() if isinstance(layer, nn.Linear)]
        expected |= {f"{name}.weight": (expected[f"{name}.weight"][0], torch.qint8) for name in layers}
        if {name: (tensor.shape, tensor.dtype) for name, tensor in _unpack_int8_state(state, layers)} != expected:
            raise ValueError("weights do not fit the sizes")
        module = quantize_torch_localizer(TorchLocalizer(**sizes))
        module.load_state_dict(state)
        return module
    if {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()} != expected:
        raise ValueError("weights do not fit the sizes")
    localizer.load_state_dict(state, assign=True)
    return localizer


def _unpack_int8_state(state: Mapping[str, Any], layers: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of an int8 state, under the names that they have in a float state."""
    packed = {f"{name}._packed_params._packed_params": name for name in layers}
    for name, value in state.items():
        if name in packed:
            weight, bias = value
            yield f"{packed[name]}.weight", weight
            if bias is not None:
                yield f"{packed[name]}.bias", bias
        elif not name.endswith((".scale", ".zero_point", "._packed_params.dtype")):
            yield name, value


def torch_runner(module: nn.Module, prompts: EncodedPrompts) -> Callable[[Matrix], Outputs]:
    """Bind prompts to a localizer: a function from features (T, C) to class activations (K+1, T) and masks."""
    embeddings, queries = _tensor(prompts.embeddings), _tensor(prompts.queries)

    def run(features: Matrix) -> Outputs:
        with torch.inference_mode():
            logits, masks = module(_tensor(features), embeddings, queries)
        return Outputs(logits.numpy(), FullMasks(masks.numpy()))

    return run


def _output_state(name: str, block: FoldedAttention) -> dict[str, Tensor]:
    return {
        f"{name}.output.weight": _tensor(block.output).T,
        f"{name}.output.bias": _tensor(block.bias),
        f"{name}.norm.weight": _tensor(block.norm_weight),
        f"{name}.norm.bias": _tensor(block.norm_bias),
    }


def _tensor(values: Matrix) -> Tensor:
    return torch.from_numpy(values)
