"""The int8 file of PyTorch, which only the benchmark runs: whatever is wrong with it, the export goes on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from torch import nn

from stale_export import torch_quantization
from stale_export.torch_localizer import TORCH_FILES
from stale_export.torch_quantization import TorchBackends, make_torch_backends
from stale_export.validation_gate import Found, MapGate, ValidationVideos
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation, GroundTruth
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from tests import tiny
from tests.export.int8 import encode

FP32, INT8 = TORCH_FILES["torch-fp32"], TORCH_FILES["torch-int8"]


@dataclass(frozen=True, kw_only=True)
class GateOfScores(MapGate):
    """Measures what it is told, in percent: first int8, then float."""

    scores: Iterator[float] = field()

    def score(self, found: Found) -> float:
        """The next score."""
        del found
        return next(self.scores)


TRUTH = GroundTruth(videos={"a": AnnotatedVideo(duration_s=9.0, annotations=(Annotation("jump", 1, 5),))})


def make(*scores: float, said: list[str], max_drop: float = 0.5) -> TorchBackends:
    network = tiny.make_network()
    gate = GateOfScores(
        videos=ValidationVideos(truth=TRUTH, features={}, length=tiny.LENGTH),
        prompts=encode(network),
        max_drop=max_drop,
        scores=iter(scores),
    )
    return make_torch_backends(network, gate if scores else None, say=said.append)


def test_no_backend_of_the_runtime_loads_these_files() -> None:
    assert not {backend.file for backend in LOCALIZER_BACKENDS.values()} & set(TORCH_FILES.values())


@pytest.mark.parametrize("int8", [77.12, 0.0])
def test_a_loss_above_the_limit_is_recorded_and_said(int8: float) -> None:
    said: list[str] = []
    made = make(int8, 77.625, said=said)
    (record,) = made.records
    assert (record.file, record.map_percent, record.fp32_map_percent) == (INT8, int8, 77.625)
    assert made.files.keys() == {FP32, INT8}
    warning, change = said
    assert warning.startswith(
        f"warning: {INT8}: mAP {int8:.2f} against 77.62 in float, a drop of {77.625 - int8:.3f}, "
    )
    assert change.startswith(f"{INT8}: change of mAP +0.00 (95 % interval")  # nothing is found in either
    assert "--max-map-drop 0.5; the bundle is written all the same" in warning


@pytest.mark.parametrize("scores", [(77.5, 77.6), (78.0, 77.6), ()])
def test_a_loss_within_the_limit_or_none_measured_is_no_warning(scores: tuple[float, ...]) -> None:
    said: list[str] = []
    (record,) = make(*scores, said=said).records
    assert (record.map_percent, record.fp32_map_percent) == (scores or (None, None))
    assert not [line for line in said if line.startswith("warning")]


def _raise(problem: Exception) -> Callable[[nn.Module], nn.Module]:
    def quantize(_localizer: nn.Module) -> nn.Module:
        raise problem

    return quantize


@pytest.mark.parametrize(
    ("quantize", "says"),
    [
        (_raise(ImportError("no torch.ao")), "this PyTorch has no dynamic quantization (no torch.ao)"),
        (_raise(RuntimeError("Didn't find engine\nNoQEngine")), "cannot quantize (Didn't find engine NoQEngine)"),
        (lambda localizer: localizer, "PyTorch computes 0 of 4 layers in integers"),
    ],
)
def test_where_pytorch_cannot_compute_int8_the_file_is_left_out(
    quantize: Callable[[nn.Module], nn.Module], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_quantization, "quantize_torch_localizer", quantize)
    said: list[str] = []
    made = make(77.6, 77.6, said=said)
    assert made.files.keys() == {FP32}
    assert made.records == ()
    (warning,) = said
    assert warning.startswith("warning: the bundle has no torch-int8, which only stale-bench runs: ")
    assert warning.endswith(says)
