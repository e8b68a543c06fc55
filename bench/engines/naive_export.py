"""The published network as ONNX files, as somebody would export it who knows neither the network nor this project.

PyTorch's exporter and ``onnxruntime.quantization.quantize_dynamic`` are called as their documentation does, with their
defaults. Each of the following makes this baseline faster, or smaller:

- The network is the one of ``published.py``, in which everything is left out that nobody reads.
- All sizes are fixed, those of the prompts and of the video too, so that ONNX Runtime knows every shape.
- ``fixed-*``: the class names are constants, as in the authors' code, which tokenizes the names of its configuration in
  each forward pass. ONNX Runtime then computes the whole text tower when it loads the graph, and keeps only what comes
  out. That takes fifteen seconds, so it is done here, once, and the graph that is left is loaded. Its classes can only
  be changed by another export.
- ``quantize_dynamic`` gets this graph too: given the one before, it would quantize the text tower, which ONNX Runtime
  would then no longer compute in advance.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor, nn

from stale_bench.engines.naive import FEATURES, FIXED, TOKEN_IDS, graph_path, weights_path
from stale_bench.engines.prompt_tokens import padded_token_ids
from stale_bench.engines.published import PublishedNetwork
from stale_bench.protocol import BackendJob
from stale_model.network.stale import TrainingOutputs
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.system.workspace import workspace


class FixedPrompts(nn.Module):
    """A published network whose class names are constants."""

    token_ids: Tensor

    def __init__(self, network: PublishedNetwork, token_ids: Tensor) -> None:
        """Args: token_ids (K, L), all prompts padded to the same length."""
        super().__init__()
        self.network = network
        self.register_buffer("token_ids", token_ids)

    def forward(self, features: Tensor) -> TrainingOutputs:
        """Args: features (B, T, C). Returns: all outputs."""
        outputs: TrainingOutputs = self.network(features, self.token_ids)
        return outputs


def export_published(job: BackendJob) -> None:
    """Write the graph of a ``NaiveEngine`` into the job's cache folder; weights are random, drawn from the job's seed.

    The graph in int8 is made of the one in float, which is written first if it is not there.
    """
    path, plain = graph_path(job), graph_path(job, "fp32")
    if not plain.exists():
        _export_float(job, plain)
    if not path.exists():
        with _quietly():
            quantize_dynamic(plain, path)


def _export_float(job: BackendJob, path: Path) -> None:
    torch.manual_seed(job.seed)
    bundle = Bundle(Path(job.bundle))
    network = PublishedNetwork(bundle, job.length).eval()
    features = torch.zeros(1, job.length, bundle.manifest.channels)
    token_ids = torch.from_numpy(padded_token_ids(bundle, job.classes))
    if not job.backend.startswith(FIXED):
        _export(network, (features, token_ids), path)
        return
    with workspace(path.parent) as folder:
        whole = folder / path.name
        _export(FixedPrompts(network, token_ids), (features,), whole, external_data=False)
        _fold_constants(whole, path)


def _export(network: nn.Module, inputs: tuple[Tensor, ...], path: Path, *, external_data: bool = True) -> None:
    """Export a network; by default its weights are in a second file, from where ONNX Runtime maps them."""
    names = [FEATURES, TOKEN_IDS][: len(inputs)]
    with torch.no_grad(), _quietly():
        torch.onnx.export(
            network, inputs, path, input_names=names, dynamo=True, external_data=external_data, verbose=False
        )


def _fold_constants(source: Path, path: Path) -> None:
    """Have ONNX Runtime compute everything that depends on no input, and write the graph that is left."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights_path(path).name)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the libraries' remarks about their own internals out of the worker's standard error."""
    for name in (None, "torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
