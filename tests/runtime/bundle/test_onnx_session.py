import os
from typing import NoReturn

import numpy as np
import pytest
from onnx import TensorProto, helper

from stale_runtime.bundle.onnx_session import checked_output, open_session, run_session
from stale_runtime.errors import COPY_AGAIN, BundleError
from stale_runtime.system.cpus import available_threads


def doubling(*, op: str = "Add", location: str = "") -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    w = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    if location:
        w.data_location = TensorProto.EXTERNAL
        w.external_data.add(key="location", value=location)
    else:
        w.raw_data = np.ones(1, dtype=np.float32).tobytes()
    graph = helper.make_graph([helper.make_node(op, ["x", "w"], ["y"])], "g", [x], [y], [w])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def test_runs_a_graph() -> None:
    session = open_session(doubling(), name="m.onnx", threads=1)
    (y,) = session.run(["y"], {"x": np.arange(3, dtype=np.float32)})
    np.testing.assert_array_equal(y, [1, 2, 3])


def test_what_decides_speed_is_said_explicitly() -> None:
    session = open_session(doubling(), name="m.onnx", threads=3)
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.enable_cpu_mem_arena is True
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_a_graph_that_onnx_runtime_does_not_know_is_a_bundle_error() -> None:
    with pytest.raises(
        BundleError, match=r"m\.onnx: ONNX Runtime cannot load it \(.*Nonsense.*\); copy the bundle"
    ) as e:
        open_session(doubling(op="Nonsense"), name="m.onnx", threads=1)
    assert "\n" not in str(e.value)


def test_external_data_is_refused_before_onnx_runtime_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.InferenceSession", None)
    with pytest.raises(BundleError, match="another file"):
        open_session(doubling(location="/etc/passwd"), name="m.onnx", threads=1)


@pytest.mark.parametrize("data", [b"", b"nonsense", doubling()[:-20]])
def test_what_is_no_model_is_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"m\.onnx"):
        open_session(data, name="m.onnx", threads=1)


def test_threads_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 7, 8})
    assert available_threads() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_threads() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_threads() == 1


@pytest.mark.parametrize(
    "output",
    [
        np.float32(1),
        np.ones((1, 3, 4), np.float64),
        np.ones((1, 3, 5), np.float32),
        np.ones((1, 3, 4), bool),
        np.array([["a"]]),
        [np.ones((1, 3, 4), np.float32)],
        None,
        *(np.where(np.arange(12).reshape(1, 3, 4) == 7, value, np.float32(1)) for value in (np.nan, np.inf, -np.inf)),
    ],
)
def test_what_no_graph_of_ours_gives_is_a_bundle_error(output: object) -> None:
    if isinstance(output, np.ndarray) and output.dtype == np.float64 and not np.isfinite(output).all():
        output = output.astype(np.float32)
    with pytest.raises(BundleError, match=rf"^m\.onnx: gives .*; {COPY_AGAIN}$"):
        checked_output("m.onnx", output, (1, 3, 4))


def test_what_is_expected_is_given_on() -> None:
    output = np.full((1, 3, 4), -2.5, np.float32)
    assert checked_output("m.onnx", output, (1, 3, 4)) is output


def test_a_graph_that_fails_while_it_runs_is_a_bundle_error() -> None:
    class Failing:
        def run(self, *_: object) -> NoReturn:
            raise RuntimeError("[ONNXRuntimeError] : 6 :\n cannot reshape")

    with pytest.raises(BundleError, match=r"fails while it runs \(\[ONNXRuntimeError\] : 6 : cannot reshape\)"):
        run_session(Failing(), ["y"], {})
