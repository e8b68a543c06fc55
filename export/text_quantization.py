"""The text encoder in int8, where a real one is 250 MB in float."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor

from stale_export.quantization import QuantizedGraph, count_integer_operators
from stale_export.schemes import bits_for
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.errors import QuantizationError
from stale_runtime.inference.onnx_session import open_session
from stale_runtime.system.workspace import workspace

LOWEST_COSINE = 0.98
"""Below this a prompt means something else."""


def quantize_text_encoder(model: bytes, file: str, *, target: str) -> QuantizedGraph:
    """Quantize all products with weights, dynamically, by ONNX Runtime's own tool.

    Args:
        model: the float graph.
        file: its name.
        target: ``portable`` or ``vnni``.

    Raises:
        QuantizationError: not all of them are computed in integers.
    """
    portable = target == "portable"
    with workspace() as folder:
        source, result = folder / "float.onnx", folder / "int8.onnx"
        source.write_bytes(model)
        quantize_dynamic(source, result, per_channel=True, reduce_range=portable, weight_type=QuantType.QInt8)
        quantized = result.read_bytes()
    parsed = onnx.load_from_string(model)
    weights = {tensor.name for tensor in parsed.graph.initializer}
    expected = sum(node.op_type in ("MatMul", "Gemm") and node.input[1] in weights for node in parsed.graph.node)
    found = count_integer_operators(quantized)
    if found != expected or not expected:
        raise QuantizationError(
            f"{file}: ONNX Runtime computes {found} of {expected} layers in integers; give --text-precision fp32"
        )
    record = QuantizationRecord(
        file=file,
        kind="dynamic",
        target=target,
        weight_bits=bits_for(target),
        integer_operators_expected=expected,
        integer_operators_found=found,
    )
    return QuantizedGraph(model=quantized, record=record)


def lowest_cosine(
    model: bytes, file: str, suffixes: Sequence[Sequence[int]], embeddings: Tensor, queries: Tensor
) -> float:
    """The lowest cosine between what a graph makes of a prompt and what the plain tower does.

    Args:
        model: the graph.
        file: its name.
        suffixes: token ids of K prompts behind the prefix.
        embeddings: (K, C) of the plain tower.
        queries: (K, H*C), what the cross-adaptation makes of them.

    Raises:
        QuantizationError: one is below the limit.
    """
    session = open_session(model, name=file, threads=1)
    found = []
    for suffix, *expected in zip(suffixes, embeddings.numpy(), queries.numpy(), strict=True):
        outputs = session.run(["embeddings", "queries"], {"token_ids": np.array([suffix], dtype=np.int64)})
        for output, vector in zip(outputs, expected, strict=True):
            found.append(float(output[0] @ vector / np.linalg.norm(output[0]) / np.linalg.norm(vector)))
    lowest = float(np.min(found))  # which is NaN where one is
    if not lowest >= LOWEST_COSINE:
        raise QuantizationError(
            f"{file}: in int8 a prompt's embedding has a cosine of {lowest:.3f} with that of float, expected at least "
            f"{LOWEST_COSINE}; give --text-precision fp32"
        )
    return lowest
