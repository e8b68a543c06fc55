"""The files of the ``torch-*`` backends: making them, counting int8 layers, and measuring the loss of mAP.

Only ``stale-bench`` runs these files. So whatever is wrong with the one in int8 is said, and never fails an export.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
from stale_export.validation_gate import MapGate, RunVideo
from stale_export.validation_record import record_map_change
from stale_model import Stale
from stale_runtime.bundle.manifest import QuantizationRecord
from stale_runtime.inputs.features import resample
from stale_runtime.system.text import one_line


@dataclass(frozen=True, kw_only=True)
class TorchBackends:
    """What a bundle contains for the ``torch-*`` backends."""

    files: Mapping[str, bytes]
    """Content by file name."""
    records: tuple[QuantizationRecord, ...] = ()
    """The record of the int8 file; empty if there is none."""


NO_TORCH_BACKENDS = TorchBackends(files={})


def make_torch_backends(network: Stale, gate: MapGate | None, *, say: Say) -> TorchBackends:
    """Make the files of the ``torch-*`` backends.

    Args:
        network: in evaluation mode.
        gate: measures mAP; None if it is not measured.
        say: called if int8 is left out, because this PyTorch cannot compute it, or loses more mAP than the gate allows.
    """
    localizer = TorchLocalizer.of(network)
    fp32, int8 = TORCH_FILES["torch-fp32"], TORCH_FILES["torch-int8"]
    files = {fp32: pack_torch_localizer(localizer, int8=False)}
    try:
        module = quantize_torch_localizer(localizer)
        packed = pack_torch_localizer(localizer, int8=True)
    except ImportError as problem:
        return _without_int8(files, f"this PyTorch has no dynamic quantization ({problem})", say)
    except RuntimeError as problem:  # PyTorch was built without a library for int8 on this CPU
        return _without_int8(files, f"this PyTorch cannot quantize ({one_line(str(problem))[:200]})", say)
    found = count_integer_layers(module)
    if found != len(LINEARS):
        return _without_int8(files, f"PyTorch computes {found} of {len(LINEARS)} layers in integers", say)
    record = QuantizationRecord(
        file=int8,
        kind="dynamic",
        target="portable",
        weight_bits=8,
        integer_operators_expected=len(LINEARS),
        integer_operators_found=found,
    )
    if gate is not None:
        record = _measure(record, module, localizer, gate, say)
    return TorchBackends(files={**files, int8: packed}, records=(record,))


def _without_int8(files: Mapping[str, bytes], why: str, say: Say) -> TorchBackends:
    say(f"warning: the bundle has no torch-int8, which only stale-bench runs: {why}")
    return TorchBackends(files=files)


def _measure(
    record: QuantizationRecord, module: nn.Module, localizer: TorchLocalizer, gate: MapGate, say: Say
) -> QuantizationRecord:
    """Add mAP in int8 and in float to a record; a loss above the gate's limit is said."""
    file = record.file
    found, baseline = (gate.find_with(_resampling(part, gate)) for part in (module, localizer))
    score, exact = gate.score(found), gate.score(baseline)
    if not gate.accepts(score, exact):
        say(
            f"warning: {file}: mAP {score:.2f} against {exact:.2f} in float, a drop of {exact - score:.3f}, more than "
            f"--max-map-drop {gate.max_drop}; the bundle is written all the same, since only stale-bench runs this file"
        )
    videos = len(gate.videos.features)
    record = replace(record, map_percent=score, fp32_map_percent=exact, validation_videos=videos)
    return record_map_change(record, found, baseline, gate.videos.truth, say=say)


def _resampling(module: nn.Module, gate: MapGate) -> RunVideo:
    run = torch_runner(module, gate.prompts)
    return lambda features: run(resample(features, gate.videos.length))
