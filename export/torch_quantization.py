"""The files of the ``torch-*`` backends: making them, counting int8 layers, and limiting the loss of mAP."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from stale_export.localizer_graph import LINEARS
from stale_export.say import Say
from stale_export.torch_localizer import (
    TORCH_FILES,
    TorchLocalizer,
    count_integer_layers,
    pack_torch_localizer,
    quantize_torch_localizer,
    torch_runner,
)
from stale_export.validation_gate import MapGate
from stale_model import Stale
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.errors import QuantizationError


@dataclass(frozen=True, kw_only=True)
class TorchBackends:
    """What a bundle contains for the ``torch-*`` backends."""

    files: Mapping[str, bytes]
    """Content by file name."""
    records: tuple[QuantizationRecord, ...] = ()
    """The record of the int8 file; empty if there is none."""


def make_torch_backends(network: Stale, gate: MapGate | None, *, say: Say) -> TorchBackends:
    """Make the files of the ``torch-*`` backends.

    Args:
        network: in evaluation mode.
        gate: limits the loss of mAP; None if mAP is not measured.
        say: called if this PyTorch has no dynamic quantization, and int8 is left out.

    Raises:
        QuantizationError: PyTorch does not compute all layers in integers, or too much mAP is lost.
    """
    localizer = TorchLocalizer.of(network)
    fp32, int8 = TORCH_FILES["torch-fp32"], TORCH_FILES["torch-int8"]
    files = {fp32: pack_torch_localizer(localizer, int8=False)}
    try:
        module = quantize_torch_localizer(localizer)
    except ImportError as problem:
        say(f"torch-int8 is unavailable: this PyTorch has no dynamic quantization ({problem})")
        return TorchBackends(files=files)
    files[int8] = pack_torch_localizer(localizer, int8=True)
    found = count_integer_layers(module)
    if found != len(LINEARS):
        raise QuantizationError(f"{int8}: PyTorch computes {found} of {len(LINEARS)} layers in integers")
    score, exact = (None, None) if gate is None else _measure(int8, module, localizer, gate)
    record = QuantizationRecord(
        file=int8,
        kind="dynamic",
        target="portable",
        weight_bits=8,
        integer_operators_expected=len(LINEARS),
        integer_operators_found=found,
        map_percent=score,
        fp32_map_percent=exact,
    )
    return TorchBackends(files=files, records=(record,))


def _measure(file: str, module: nn.Module, localizer: TorchLocalizer, gate: MapGate) -> tuple[float, float]:
    """MAP in int8 and in float, in percent.

    Raises:
        QuantizationError: int8 loses too much.
    """
    score, exact = (gate.measure_outputs(torch_runner(part, gate.prompts)) for part in (module, localizer))
    gate.require_meaning(file, exact)
    if not gate.accepts(score, exact):
        raise QuantizationError(
            f"{file}: mAP {score:.2f} against {exact:.2f} in float, expected a drop of at most {gate.max_drop}; "
            "nothing was written"
        )
    return score, exact
