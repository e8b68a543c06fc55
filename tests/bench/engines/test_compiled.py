from functools import partial
from pathlib import Path

import pytest
import torch
import torch._inductor.config

from stale_bench.engines.compiled import PublishedCompiled
from stale_bench.engines.published import Published
from tests.bench.helpers import make_job


@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled")
@pytest.mark.usefixtures("small_tower")
def test_the_compiled_network_is_ready_when_it_is_loaded_and_computes_the_same(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch compiles to C++ for half a minute; here it only captures the graph."""
    graphs: list[torch.fx.GraphModule] = []

    def capture(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=capture))
    for option in ("force_disable_caches", "freezing", "compile_threads"):  # the engine sets them for its process
        monkeypatch.setattr(torch._inductor.config, option, getattr(torch._inductor.config, option))
    job = make_job(bundle, tmp_path, length=24)
    compiled, plain = PublishedCompiled(job), Published(job)
    assert PublishedCompiled.loads
    assert len(graphs) == 1
    outputs: list[torch.Tensor] = []
    for engine in (compiled, plain):
        engine.network.register_forward_hook(lambda _network, _inputs, found: outputs.append(found.cas_logits))
        engine.steps(engine.features())["forward"]()
    torch.testing.assert_close(*outputs)
    assert len(graphs) == 1
