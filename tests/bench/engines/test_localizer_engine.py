from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stale_bench.engines.localizer_engine import LocalizerEngine
from tests import tiny
from tests.bench.helpers import make_job
from tests.export.approximation import write_fast_bundle


def test_an_approximate_backend_says_whether_it_left_a_video_to_the_exact_graph(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.random.default_rng(0).standard_normal((40, tiny.CHANNELS)).astype(np.float32))
    network = tiny.make_network(0)
    found = {}
    for name, limit in (("lenient", 1e9), ("strict", 0.0)):
        folder = write_fast_bundle(bundle, tmp_path / name, network, limit=limit).path
        job = make_job(folder, tmp_path, backend="ort-fast", file="localizer.fast.onnx", precision="int8")
        engine = LocalizerEngine(job)
        found[name] = engine.detect(path, 60.0)
        facts = engine.facts(engine.features())
        assert facts.recomputed == found[name].recomputed == (name == "strict")
        assert facts.gmacs is not None
        assert facts.gmacs > 0
        assert facts.file_mb == (folder / "localizer.fast.onnx").stat().st_size / 1e6
    exact = LocalizerEngine(make_job(bundle, tmp_path)).detect(path, 60.0)
    assert exact.recomputed is None
    assert len(exact.detections) == len(found["strict"].detections) > 0


@pytest.mark.parametrize("length", [16, 40])
def test_multiplications_are_counted_on_the_inputs_of_the_graph(bundle: Path, tmp_path: Path, length: int) -> None:
    engine = LocalizerEngine(make_job(bundle, tmp_path, length=length))
    few, many = (engine.facts(np.ones((snippets, tiny.CHANNELS), np.float32)).gmacs for snippets in (8, 60))
    longer = LocalizerEngine(replace(engine.job, length=2 * length)).facts(np.ones((100, tiny.CHANNELS), np.float32))
    assert few is not None
    assert many is not None
    assert longer.gmacs is not None
    assert few < many < longer.gmacs
