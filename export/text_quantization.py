"""The text encoder in int8: a real one has 250 MB in float."""

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from stale_export.embedded_prompts import EmbeddedPrompts
from stale_export.quantization import QuantizedGraph, count_integer_operators
from stale_export.schemes import bits_for
from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.errors import QuantizationError
from stale_runtime.system.workspace import workspace

LOWEST_COSINE = 0.98
"""Below this cosine with the float embedding, a prompt means something else."""


def quantize_text_encoder(model: bytes, file: str, *, target: str) -> QuantizedGraph:
    """Quantize all products with weights, dynamically, with ONNX Runtime's own tool.

    Args:
        model: the float graph.
        file: file name of the graph, for record and messages.
        target: one of ``TARGETS``.

    Raises:
        QuantizationError: not all of the products are computed in integers.
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


def lowest_cosine(model: bytes, file: str, prompts: EmbeddedPrompts) -> float:
    """The lowest cosine between a vector that a graph computes from a prompt and the plain tower's.

    Args:
        model: the graph.
        file: file name of the graph, for messages.
        prompts: what the plain tower computes from each prompt.

    Raises:
        QuantizationError: a cosine is below ``LOWEST_COSINE``, or NaN.
    """
    session = open_session(model, name=file, threads=1)
    (token_ids,) = layout.TEXT_ENCODER_INPUTS
    cosines = []
    for suffix, *expected in zip(prompts.suffixes, prompts.embeddings.numpy(), prompts.queries.numpy(), strict=True):
        outputs = session.run(layout.TEXT_ENCODER_OUTPUTS, {token_ids: np.array([suffix], dtype=np.int64)})
        for output, vector in zip(outputs, expected, strict=True):
            cosines.append(float(output[0] @ vector / np.linalg.norm(output[0]) / np.linalg.norm(vector)))
    lowest = float(np.min(cosines))  # NaN if any is NaN
    if not lowest >= LOWEST_COSINE:
        raise QuantizationError(
            f"{file}: in int8 a prompt's embedding has a cosine of {lowest:.3f} with the float embedding, expected at "
            f"least {LOWEST_COSINE}; give --text-precision fp32"
        )
    return lowest
