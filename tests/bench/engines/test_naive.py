from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from stale_bench.engines import naive_export
from stale_bench.engines.naive import NaiveEngine, graph_path, weights_path
from stale_bench.engines.naive_export import export_published
from stale_bench.engines.published import Published
from stale_bench.protocol import BackendJob
from tests.bench.engines.macs_by_hand import macs_by_hand
from tests.bench.helpers import make_job
from tests.tiny import CHANNELS, CLASSES

T, K, H = 24, len(CLASSES), 4
TOKENS = 2 + max(len("avideoofaction" + name.replace(" ", "")) for name in CLASSES)  # tokens are letters
FAMILIES = ("naive-ort", "fixed-ort")

pytestmark = pytest.mark.usefixtures("small_tower_in_module")


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> BackendJob:
    """A job for any of the backends: all graphs are in its folder."""
    request.getfixturevalue("small_tower_in_module")
    folder = tmp_path_factory.mktemp("exported")
    job = make_job(bundle, folder, file=None, length=T, seed=3)
    for family in FAMILIES:
        export_published(replace(job, backend=f"{family}-int8", precision="int8"))
    return job


def engine(job: BackendJob, backend: str) -> NaiveEngine:
    return NaiveEngine(replace(job, backend=backend, precision="int8" if backend.endswith("int8") else "fp32"))


def forward(backend: Published | NaiveEngine) -> np.ndarray:
    """The class activation sequence (K+1, T) of the engine's video."""
    if isinstance(backend, NaiveEngine):
        return np.asarray(backend.steps(backend.features())["forward"]()[0][0])
    seen: list[torch.Tensor] = []
    backend.network.register_forward_hook(lambda _network, _inputs, outputs: seen.append(outputs.cas_logits))
    backend.steps(backend.features())["forward"]()
    return seen[0][0].numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_graph_computes_what_the_published_network_computes(exported: BackendJob, family: str) -> None:
    found = forward(engine(exported, f"{family}-fp32"))
    np.testing.assert_allclose(found, forward(Published(exported)), atol=2e-4)  # logits are 100 times a cosine
    assert np.abs(found - forward(Published(replace(exported, seed=4)))).max() > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_products_of_activations_with_weights_are_done_in_integers(exported: BackendJob, family: str) -> None:
    plain, quantized = (engine(exported, f"{family}-{kind}") for kind in ("fp32", "int8"))
    graph = onnx.load(graph_path(quantized.job)).graph
    weights = {tensor.name for tensor in graph.initializer}
    in_float = [node for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    assert not [node.name for node in in_float if node.input[1] in weights]
    before, after = (each.facts(each.features()) for each in (plain, quantized))
    assert before.int8_share == 0
    assert after.int8_share is not None
    assert 0.5 < after.int8_share < 1
    assert after.file_mb is not None
    assert before.file_mb is not None
    assert after.file_mb < before.file_mb
    exact, rounded = forward(plain), forward(quantized)
    assert 0 < np.sqrt(np.mean((exact - rounded) ** 2)) < 0.1 * exact.std()


def test_fixed_names_leave_no_text_tower_in_the_graph(exported: BackendJob) -> None:
    gmacs = [each.facts(each.features()).gmacs for each in (engine(exported, f"{family}-fp32") for family in FAMILIES)]
    by_hand = [
        macs_by_hand(K, TOKENS, T, C=CHANNELS, width=8, inner=16, layers=layers) - K * 8 * CHANNELS for layers in (1, 0)
    ]
    projection = K * 8 * CHANNELS
    queries = (K + 1) * H * CHANNELS**2
    first_query = 5 * CHANNELS**2 + 2 * CHANNELS  # of the foreground branch: it does not depend on the video either
    assert [round(1e9 * (count or 0)) for count in gmacs] == [
        by_hand[0] + projection,
        by_hand[1] - queries - first_query,
    ]


def test_a_network_is_exported_once_for_each_length_and_family(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(path: Path) -> None:
        made.append(path.name)
        path.touch()

    monkeypatch.setattr(naive_export, "_export_float", lambda _job, path: make(path))
    monkeypatch.setattr(naive_export, "quantize_dynamic", lambda _source, path: make(path))
    for length in (T, T + 1, T):
        for kind in ("int8", "fp32"):
            export_published(make_job(bundle, tmp_path, backend=f"naive-ort-{kind}", precision=kind, length=length))
    assert made == [f"naive-ort-{kind} T={length}.onnx" for length in (T, T + 1) for kind in ("fp32", "int8")]


def test_the_weights_beside_a_graph_count_as_its_file(exported: BackendJob) -> None:
    naive = engine(exported, "naive-ort-fp32")
    path = graph_path(naive.job)
    size = path.stat().st_size + weights_path(path).stat().st_size
    assert naive.facts(naive.features()).file_mb == size / 1e6


def test_a_video_of_a_file_is_resampled_to_the_graph_s_length(exported: BackendJob, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((5, CHANNELS), np.float32))
    naive = engine(exported, "naive-ort-fp32")
    assert naive.video_steps(tmp_path / "v.npy")["forward"]()[0].shape == (1, K + 1, T)
