from pathlib import Path

import pytest

from stale_bench.benchmark_inputs import ENCODED_NAME
from stale_bench.measuring import prepare as preparing
from stale_bench.measuring.plan import BenchmarkRequest
from stale_bench.measuring.prepare import prepare
from stale_runtime.errors import BundleError


def test_networks_with_random_weights_need_no_localizer(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise BundleError("no ONNX Runtime here")

    monkeypatch.setattr(preparing, "Localizer", refuse)
    plan = prepare(BenchmarkRequest(bundle=bundle, backends=("upstream-fp32",)), tmp_path)
    assert [backend.name for backend in plan.backends] == ["upstream-fp32"]
    with pytest.raises(BundleError, match="no ONNX Runtime here"):
        prepare(BenchmarkRequest(bundle=bundle, backends=("upstream-fp32", "torch-fp32")), tmp_path)


def test_prompts_are_encoded_once_for_networks_that_detect(bundle: Path, tmp_path: Path) -> None:
    prepare(BenchmarkRequest(bundle=bundle, backends=("torch-fp32",)), tmp_path)
    assert (tmp_path / ENCODED_NAME).is_file()
