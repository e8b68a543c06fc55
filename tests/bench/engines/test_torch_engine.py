from pathlib import Path

import numpy as np
import pytest

from stale_bench.benchmark_backends import BACKENDS
from stale_bench.benchmark_inputs import write_encoded
from stale_bench.engines.localizer_engine import LocalizerEngine
from stale_bench.engines.torch_engine import TorchEngine
from stale_bench.measuring.plan import BenchmarkCase
from stale_bench.measuring.plan import make_job as plan_job
from stale_bench.protocol import BackendJob
from stale_export.torch_localizer import TORCH_FILES
from stale_runtime.errors import BundleError
from stale_runtime.inference.localizer import Localizer
from tests.bench.helpers import make_job, make_plan
from tests.runtime.helpers import altered
from tests.tiny import CHANNELS, CLASSES


@pytest.fixture
def cache(bundle: Path, tmp_path: Path) -> Path:
    """A cache folder as a benchmark fills it."""
    write_encoded(tmp_path, Localizer.open(bundle, backend="ort-fp32").encode_prompts(CLASSES))
    return tmp_path


def torch_job(bundle: Path, cache: Path, name: str) -> BackendJob:
    """The job that a benchmark derives for this backend."""
    plan = make_plan(bundle, BACKENDS[name], cache=cache)
    return plan_job(plan, plan.backends[0], BenchmarkCase(16), 0)


def test_the_files_are_those_that_the_export_writes() -> None:
    assert {name: BACKENDS[name].file for name in TORCH_FILES} == TORCH_FILES


def test_it_finds_what_the_graph_finds(bundle: Path, cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "v_a.npy"
    np.save(path, np.random.default_rng(0).standard_normal((40, CHANNELS)).astype(np.float32))
    ours = TorchEngine(torch_job(bundle, cache, "torch-fp32")).detect(path, 60.0).detections
    theirs = LocalizerEngine(make_job(bundle, cache)).detect(path, 60.0).detections
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine[0] == other[0]
        assert mine[1:] == pytest.approx(other[1:], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("backend", list(TORCH_FILES))
def test_all_steps_run_and_facts_are_the_file_s(bundle: Path, cache: Path, backend: str) -> None:
    engine = TorchEngine(torch_job(bundle, cache, backend))
    features = engine.features()
    steps = engine.steps(features)
    assert steps.keys() == {"resample", "forward", "decode", "end_to_end"}
    for step in steps.values():
        step()
    facts = engine.facts(features)
    assert facts.file_mb == (bundle / TORCH_FILES[backend]).stat().st_size / 1e6
    assert facts.gmacs is not None
    assert facts.int8_share is not None
    assert facts.gmacs > 0
    assert (facts.int8_share > 0) == (backend == "torch-int8")


def test_a_network_that_the_manifest_does_not_describe_is_refused(bundle: Path, cache: Path, tmp_path: Path) -> None:
    copy = altered(bundle, tmp_path / "copy", heads=1)
    with pytest.raises(BundleError, match=r"localizer\.torch\.pth: not the network that the manifest describes"):
        TorchEngine(torch_job(copy, cache, "torch-fp32"))
