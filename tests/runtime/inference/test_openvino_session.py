"""OpenVINO on the same files as ONNX Runtime."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from stale_export.calibration import CALIBRATED
from stale_export.float_attention import LONG
from stale_export.graph_builder import serialize
from stale_export.localizer_graph import localizer_model
from stale_export.schemes import PORTABLE_BITS, StaticScheme
from stale_runtime import Localizer
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.onnx_session import open_session
from stale_runtime.errors import BackendError, BundleError, MissingPackageError
from stale_runtime.inference import backends
from stale_runtime.inference.backends import LOCALIZER_BACKENDS, backend_problem, open_backend
from stale_runtime.inference.bundle_check import self_test
from tests import tiny
from tests.export.graphs import draw_prompts, inputs_for, whole_outputs

pytest.importorskip("openvino", reason="OpenVINO is not installed: stale-edge[openvino]")
from stale_runtime.inference import openvino_session
from stale_runtime.inference.openvino_session import OpenVinoSession


def draw(snippets: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((snippets, tiny.CHANNELS)).astype(np.float32)


def load(model: bytes, *, precision: str = "fp32", integer_layers: int = 0) -> OpenVinoSession:
    return OpenVinoSession(
        model,
        name="graph",
        inputs=layout.LOCALIZER_INPUTS,
        outputs=layout.LOCALIZER_OUTPUTS,
        threads=1,
        precision=precision,
        integer_layers=integer_layers,
    )


@pytest.mark.parametrize(
    ("snippets", "length"), [(8, 16), (40, 16), (16, 16), (10, 100), (90, 100), (7, LONG + 60), (1200, LONG + 60)]
)
def test_outputs_are_those_of_onnx_runtime(bundle: Path, snippets: int, length: int) -> None:
    features = draw(snippets)
    found = []
    for backend in ("openvino-fp32", "ort-fp32"):
        localizer = Localizer.open(bundle, backend=backend, length=length)
        found.append(localizer.outputs(features, localizer.encode_prompts(tiny.CLASSES)))
    for got, expected, limit in zip(*map(whole_outputs, found), (2e-4, 1e-5), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=limit)


def test_int8_is_computed_in_integers_and_is_not_float() -> None:
    network = tiny.make_network()
    schemes = {name: StaticScheme.over(-4, 4, PORTABLE_BITS) for name in CALIBRATED}
    inputs = inputs_for(network, torch.from_numpy(draw(16)[None]), draw_prompts(3, tiny.CHANNELS))
    models = [serialize(localizer_model(network, chosen)) for chosen in (schemes, {})]
    found = [
        load(models[0], precision="int8", integer_layers=len(CALIBRATED)).run([layout.MASK_LOGITS], inputs)[0],
        *(open_session(model, name="ort", threads=1).run([layout.MASK_LOGITS], inputs)[0] for model in models),
    ]
    openvino, ort, in_float = found
    off = np.abs(ort - in_float).mean()
    assert 0 < np.abs(openvino - in_float).mean() < 2 * off
    assert np.abs(openvino - ort).mean() < off / 2


def test_attention_in_integers_is_refused_before_it_is_loaded(int8_bundle: Path) -> None:
    with pytest.raises(BackendError, match="openvino-int8: OpenVINO would compute the attention of this int8 graph in"):
        Localizer.open(int8_bundle, backend="openvino-int8")
    older = replace(Bundle(int8_bundle).manifest, format_version=4)
    assert backend_problem(LOCALIZER_BACKENDS["openvino-int8"], older) is None


def test_a_graph_left_in_float_is_refused(bundle: Path) -> None:
    with pytest.raises(BackendError, match="computes 0 of 4 layers in integers here; use an ort backend"):
        load(Bundle(bundle).read(layout.LOCALIZER_FP32), precision="int8", integer_layers=4)


def test_a_dynamic_graph_is_refused_before_it_is_loaded(bundle: Path) -> None:
    older = replace(Bundle(bundle).manifest, format_version=4)
    problem = str(backend_problem(LOCALIZER_BACKENDS["openvino-int8"], older))
    assert problem.startswith("openvino-int8: OpenVINO would compute a dynamically quantized graph in float")


def test_bfloat16_is_refused_where_it_would_be_float32(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_session, "has_bf16", lambda: False)
    with pytest.raises(BackendError, match="this CPU has no bfloat16 arithmetic"):
        Localizer.open(bundle, backend="openvino-bf16")
    monkeypatch.setattr(openvino_session, "has_bf16", lambda: True)
    assert backend_problem(LOCALIZER_BACKENDS["openvino-bf16"], Bundle(bundle).manifest) is None


def test_where_openvino_would_wait_for_ever_it_is_not_started(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_CPU_LISTS", ("/nowhere/cpuinfo", "/nowhere/cpu"))
    with pytest.raises(BackendError, match="without /nowhere/cpuinfo and /nowhere/cpu, OpenVINO would wait for ever"):
        Localizer.open(bundle, backend="openvino-fp32")
    assert not any(check.what.startswith("openvino") for check in self_test(Bundle(bundle)))


def test_without_openvino_the_message_says_what_to_install(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"needs OpenVINO, .* pip install 'stale-edge\[openvino\]'"):
        Localizer.open(bundle, backend="openvino-fp32")
    assert not any(check.what.startswith("openvino") for check in self_test(Bundle(bundle)))


def test_the_self_test_replays_it(int8_bundle: Path) -> None:
    checks = {check.what: check for check in self_test(Bundle(int8_bundle)) if check.what.startswith("openvino")}
    assert "openvino-fp32: cas_logits" in checks
    assert not any(what.startswith("openvino-int8") for what in checks)
    assert all(check.passed for check in checks.values())


def test_what_is_no_graph_is_refused(bundle: Path) -> None:
    model = onnx.load_from_string(Bundle(bundle).read(layout.LOCALIZER_FP32))
    next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "NoSuchOperator"
    with pytest.raises(BundleError, match="graph: OpenVINO cannot load it"):
        load(model.SerializeToString())
    with pytest.raises(BundleError, match="not an ONNX model"):
        load(b"nonsense")
    model.graph.node.add(op_type="NoSuchOperator", domain="com.example")
    with pytest.raises(BundleError, match=r"uses operators of 'com\.example'"):
        load(model.SerializeToString())


def test_other_inputs_are_refused(bundle: Path) -> None:
    model = Bundle(bundle).read(layout.LOCALIZER_FP32)
    with pytest.raises(BundleError, match="not the inputs and outputs of a localizer"):
        OpenVinoSession(
            model, name="graph", inputs=("x",), outputs=("y",), threads=1, precision="fp32", integer_layers=0
        )


def test_four_threads_find_what_one_does(bundle: Path) -> None:
    localizer = Localizer.open(bundle, backend="openvino-fp32")
    prompts = localizer.encode_prompts(tiny.CLASSES)
    videos = [draw(10 + n, seed=n) for n in range(24)]
    alone = [localizer.detect(video, prompts) for video in videos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda video: localizer.detect(video, prompts), videos))
    assert together == alone
    assert any(video.detections for video in alone)


def test_every_backend_of_openvino_runs_a_file_of_onnx_runtime() -> None:
    files = {e: {b.file for b in LOCALIZER_BACKENDS.values() if b.engine == e} for e in ("openvino", "onnxruntime")}
    assert files["openvino"] <= files["onnxruntime"]


def test_the_session_knows_its_outputs_by_name(bundle: Path) -> None:
    session = open_backend(LOCALIZER_BACKENDS["openvino-fp32"], Bundle(bundle), threads=1, working_bytes=0)
    localizer = Localizer.open(bundle)
    prompts = localizer.encode_prompts(tiny.CLASSES)
    inputs = localizer.graph_inputs(localizer.prepare(draw(9), prompts))
    kept, logits = session.run(["kept", "cas_logits"], inputs)
    assert kept.shape == (1, tiny.LENGTH)
    assert logits.shape[1] == len(tiny.CLASSES) + 1


LOADED_AND_FREED = """
import ctypes, gc, sys, threading
from stale_runtime import Localizer

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

held = [Localizer.open(sys.argv[1], backend="openvino-fp32")]
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
gc.collect()
stack = Stack()
ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
ranges = [line.split()[0].split("-") for line in open("/proc/self/maps")]
mapped = any(int(start, 16) <= (stack.start or 0) < int(end, 16) for start, end in ranges)
assert mapped or not stack.start, hex(stack.start)
"""


def test_a_session_that_another_thread_frees_takes_no_stack_for_signals_with_it(bundle: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LOADED_AND_FREED, bundle], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
