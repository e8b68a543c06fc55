"""What the ``torch-*`` backends load: made, counted, and held against a limit of mAP."""

from collections.abc import Callable

from stale_export.localizer_graph import LINEARS
from stale_export.torch_localizer import (
    TORCH_FILES,
    TorchLocalizer,
    count_integer_layers,
    pack_torch_localizer,
    quantized,
    torch_runner,
)
from stale_export.validation_gate import ValidationVideos, holds, require_proof
from stale_model import Stale
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.errors import QuantizationError
from stale_runtime.inference.localizer import EncodedPrompts


def torch_backends(
    network: Stale,
    prompts: EncodedPrompts,
    *,
    validation: ValidationVideos | None,
    max_map_drop: float,
    say: Callable[[str], None],
) -> tuple[dict[str, bytes], tuple[QuantizationRecord, ...]]:
    """The files of the ``torch-*`` backends, and what there is to say of int8.

    Args:
        network: in evaluation mode.
        prompts: that mAP is measured with.
        validation: videos to measure it on; without them nothing is held against the limit.
        max_map_drop: in percent of mAP.
        say: told if this PyTorch has no dynamic quantization, and int8 is left out.

    Raises:
        QuantizationError: PyTorch does not compute all layers in integers, or mAP drops beyond the limit.
    """
    localizer = TorchLocalizer.of(network)
    files = {TORCH_FILES["torch-fp32"]: pack_torch_localizer(localizer, int8=False)}
    try:
        module = quantized(localizer)
    except ImportError as problem:
        say(f"torch-int8 is unavailable: this PyTorch has no dynamic quantization ({problem})")
        return files, ()
    name = TORCH_FILES["torch-int8"]
    files[name] = pack_torch_localizer(localizer, int8=True)
    found = count_integer_layers(module)
    if found != len(LINEARS):
        raise QuantizationError(f"{name}: PyTorch computes {found} of {len(LINEARS)} layers in integers")
    score = exact = None
    if validation is not None:
        score, exact = (
            validation.measure_outputs(torch_runner(part, prompts), prompts) for part in (module, localizer)
        )
        require_proof(name, exact, max_map_drop)
        if not holds(score, exact, max_map_drop):
            raise QuantizationError(
                f"{name}: mAP {score:.2f} against {exact:.2f} in float, expected a drop of at most {max_map_drop}; "
                "nothing was written"
            )
    record = QuantizationRecord(
        file=name,
        kind="dynamic",
        target="portable",
        weight_bits=8,
        integer_operators_expected=len(LINEARS),
        integer_operators_found=found,
        map_percent=score,
        fp32_map_percent=exact,
    )
    return files, (record,)
